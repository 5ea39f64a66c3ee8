"""Temporal order over 50 to 200 steps: tell in which order two symbols came, long after. Which remedies let a simple network learn it.

    python benchmarks/papers/temporal_order.py --json benchmarks/results/papers-temporal-order.json

Pascanu, Mikolov & Bengio (2013, §4.1): 50 tanh units, batches of 20 new sequences, gradient descent with a constant rate of .01, clipped
to a norm of 1, Ω with the weight 4, at most five million updates. With clip and Ω one network learned all lengths from 50 to 200 in 5 of
5 runs and made no error on lengths up to 5,000; without Ω success falls to none towards length 50 or more. A run has learned when fewer
than 1 in 100 of 10,000 new sequences are wrong; chance is 75 of 100.

Here a network is trained on sequences of one length, as for the paper's figure of success by length, and a run ends once it has learned, or
after so many updates; the rate is .1 and Ω has the weight 2. The last rows begin with an orthogonal matrix, which the paper did not try.
``wrong_at`` tells how the network does on other lengths, ``decay`` the factor by which the gradient shrinks a step back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from _table import Outcome, Row, Table, count, main

from throughtime.cells import Elman
from throughtime.data import temporal_order
from throughtime.flow import gradient_flow
from throughtime.gradients import AbstractGradient, FullBPTT, WithOmega
from throughtime.models import Head, OneHot, SequenceModel
from throughtime.nn import AbstractInitialiser, Orthogonal, Recurrence, TorchUniform
from throughtime.training import AbstractClip, ClipNorm, step

SYMBOLS, CLASSES, HIDDEN, BATCH = 6, 4, 50, 20


@dataclass(frozen=True)
class Remedy:
    gradient: AbstractGradient = FullBPTT()
    clips: tuple[AbstractClip, ...] = (ClipNorm(1.0),)
    start: tuple[AbstractInitialiser, ...] = (TorchUniform(),)
    length: int = 50
    updates: int = 8000
    rate: float = 0.1
    others: tuple[int, ...] = (50, 100, 200, 1000)
    tested: int = 10_000

    def train(self, seed: int) -> Outcome:
        stack = Recurrence(Elman(), SYMBOLS, HIDDEN, initialisers=self.start)
        model = SequenceModel(OneHot(SYMBOLS), stack, Head(HIDDEN, CLASSES))
        before, learned = self.decay(model, seed), self.learn(model, seed)
        generator = torch.Generator().manual_seed(10**6 + seed)
        wrong = self.errors(model, self.length, self.tested, generator)
        about = {
            "learned_after": learned,
            "wrong_at": {length: self.errors(model, length, self.tested // 10, generator) for length in self.others},
            "decay_before": before,
            "decay_after": self.decay(model, seed),
        }
        return Outcome(100 * wrong, count(model), about)

    def learn(self, model: SequenceModel, seed: int) -> int | None:
        """Train; after how many updates fewer than 1 in 100 were wrong."""
        optimizer, generator = torch.optim.SGD(model.parameters(), self.rate), torch.Generator().manual_seed(seed)
        for update in range(1, self.updates + 1):
            batch = temporal_order(self.length, BATCH, generator)
            step(model, batch, None, gradient=self.gradient, clips=self.clips, optimizer=optimizer)
            if update % 500 == 0:
                wrong = self.errors(model, self.length, min(2000, self.tested), torch.Generator().manual_seed(10**7 + update))
                print(f"  {update}: {wrong:.1%} wrong", flush=True)
                if wrong < 0.002:
                    return update
        return None

    @torch.no_grad()
    def errors(self, model: SequenceModel, length: int, sequences: int, generator: torch.Generator) -> float:
        """The share that is wrong, of so many new sequences."""
        size = min(100, sequences)
        wrong = 0
        for _ in range(sequences // size):
            batch = temporal_order(length, size, generator)
            hs, _ = model.recurrence(model.embed(batch), model.initial_state(size))
            wrong += int((model.head(hs[-1]).argmax(1) != batch.known_targets()[-1]).sum())
        return wrong / sequences

    def decay(self, model: SequenceModel, seed: int) -> float:
        batch = temporal_order(self.length, BATCH, torch.Generator().manual_seed(seed))
        return gradient_flow(model, batch, parameters=False, inputs=False, jacobians=None, gates=False, windows=False).verdict.decay


ORTHOGONAL = (TorchUniform(), Orthogonal())
OMEGA = WithOmega(FullBPTT(), 2.0)
REMEDIES = {
    "gradient descent, 50 steps": ("fails", Remedy(clips=())),
    "clip, 50 steps": ("fails", Remedy()),
    "clip and Ω, 50 steps": ("learns", Remedy(OMEGA)),
    "clip and orthogonal, 50 steps": ("–", Remedy(start=ORTHOGONAL)),
    "clip and orthogonal, 100 steps": ("–", Remedy(start=ORTHOGONAL, length=100)),
    "clip and orthogonal, 200 steps": ("–", Remedy(start=ORTHOGONAL, length=200)),
}


def rows(small: bool) -> Sequence[Row]:
    def of(remedy: Remedy) -> Remedy:
        return replace(remedy, updates=2, length=10, others=(20,), tested=20) if small else remedy

    return [Row(name, paper, repr(of(remedy)), of(remedy).train) for name, (paper, remedy) in REMEDIES.items()]


TABLE = Table("% wrong", ".2f", rows)

if __name__ == "__main__":
    main(TABLE, __doc__)
