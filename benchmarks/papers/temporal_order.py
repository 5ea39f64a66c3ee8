"""Temporal order: tell in which order two symbols came, up to 200 steps later. A simple network of 50 tanh units, with Ω and without.

    python benchmarks/papers/temporal_order.py --seeds 5 --json benchmarks/results/papers-temporal-order.json

Pascanu, Mikolov & Bengio (2013, §4.1): batches of 20 new sequences of 50 to 200 steps, gradient descent at .01, clipped to a norm of 1, Ω
with the weight 4, at most five million updates. One network learned all lengths in 5 of 5 runs and made no error on lengths up to 5,000. A
run has learned when fewer than 1 in 100 of 10,000 new sequences are wrong; chance is 75 of 100. In the log that lies beside the author's
program that took 336,000 updates.

Other here: the lengths grow. A batch has 64 sequences of one length, drawn from 10 to ``longest``, which begins at 12 and becomes 4 % more
when the mean loss falls below .1 (and less when it rises above .9). R starts as the identity, Ω has the weight 10, and Adam's rate is .002,
times 12 / ``longest``, falling in a line to nothing over 4,000 updates. A run ends when it makes no error on 500 sequences of each of four
lengths. The first row is the same without Ω. ``wrong_at`` tells how the network does on each length, also on longer ones than it has
seen; ``decay`` is the factor by which the gradient shrinks or grows a step back.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from _table import Outcome, Row, Table, count, main

from throughtime.cells import Elman
from throughtime.data import temporal_order
from throughtime.flow import gradient_flow
from throughtime.gradients import AbstractGradient, FullBPTT, WithOmega
from throughtime.models import Head, OneHot, SequenceModel
from throughtime.nn import IdentityMatrix, Recurrence, TorchUniform
from throughtime.training import ClipNorm, step

SYMBOLS, CLASSES, HIDDEN = 6, 4, 50
SHORTEST, FIRST = 10, 12.0  # steps
LEARNED, LOST = 0.1, 0.9  # nats


@dataclass(frozen=True)
class Recipe:
    gradient: AbstractGradient = FullBPTT()
    longest: int = 200
    growth: float = 1.04
    batch: int = 64
    updates: int = 4000
    rate: float = 0.002
    fall: float = 1.0
    lengths: tuple[int, ...] = (50, 100, 150, 200)
    longer: tuple[int, ...] = (500, 1000, 5000)
    tested: int = 10_000

    def train(self, seed: int) -> Outcome:
        stack = Recurrence(Elman(), SYMBOLS, HIDDEN, initialisers=(TorchUniform(), IdentityMatrix()))
        model = SequenceModel(OneHot(SYMBOLS), stack, Head(HIDDEN, CLASSES))
        before, (longest, updates) = self.decay(model, seed), self.learn(model, seed)
        generator = torch.Generator().manual_seed(10**6 + seed)
        wrong = {length: self.errors(model, length, self.tested // len(self.lengths), generator) for length in self.lengths}
        farther = {length: self.errors(model, length, self.tested // 10, generator) for length in self.longer}
        mean = statistics.fmean(wrong.values())
        about = {"learned": mean < 0.01, "updates": updates, "longest": round(longest), "wrong_at": wrong | farther}
        return Outcome(100 * mean, count(model), about | {"decay_before": before, "decay_after": self.decay(model, seed)})

    def learn(self, model: SequenceModel, seed: int) -> tuple[float, int]:
        """Train until all lengths are learned; the longest that was, and the updates."""
        optimizer = torch.optim.Adam(model.parameters(), self.rate, betas=(0.9, 0.99), fused=True)
        generator, longest, mean = torch.Generator().manual_seed(seed), FIRST, 1.4
        for update in range(1, self.updates + 1):
            length = int(torch.randint(SHORTEST, int(longest) + 1, (), generator=generator))
            optimizer.param_groups[0]["lr"] = self.rate * (FIRST / longest) ** self.fall * (1 - update / self.updates)
            batch = temporal_order(length, self.batch, generator)
            done = step(model, batch, None, gradient=self.gradient, clips=[ClipNorm(1.0)], optimizer=optimizer)
            mean += 0.05 * (done.loss - mean)
            if mean < LEARNED and longest == self.longest and self.all_are_right(model, update):
                return longest, update
            if mean < LEARNED and longest < self.longest:
                longest, mean = min(self.longest, longest * self.growth), 1.5 * LEARNED
            elif mean > LOST and longest > FIRST:
                longest, mean = max(FIRST, longest / self.growth), 0.5
            if update % 500 == 0:
                print(f"  {update}: up to {longest:.0f} steps, {mean:.2f} nats", flush=True)
        return longest, self.updates

    def all_are_right(self, model: SequenceModel, update: int) -> bool:
        generator = torch.Generator().manual_seed(10**7 + update)
        return update % 20 == 0 and all(self.errors(model, length, 500, generator) == 0 for length in self.lengths)

    @torch.no_grad()
    def errors(self, model: SequenceModel, length: int, sequences: int, generator: torch.Generator) -> float:
        """The share that is wrong, of so many new sequences."""
        size = min(100, sequences)
        wrong = 0
        for _ in range(sequences // size):
            batch = temporal_order(length, size, generator)
            hs, _ = model.recurrence(model.embed(batch), model.initial_state(size))
            wrong += int((model.head(hs[-1]).argmax(1) != batch.known_targets()[-1]).sum())
        return wrong / (sequences // size * size)

    def decay(self, model: SequenceModel, seed: int) -> float:
        batch = temporal_order(self.longest, 20, torch.Generator().manual_seed(seed))
        return gradient_flow(model, batch, parameters=False, inputs=False, jacobians=None, gates=False, windows=False).verdict.decay


RECIPES = {"clip": ("–", Recipe()), "clip and Ω": ("< 1", Recipe(WithOmega(FullBPTT(), 10.0)))}


def rows(small: bool) -> Sequence[Row]:
    def of(recipe: Recipe) -> Recipe:
        return replace(recipe, updates=2, longest=20, lengths=(20,), longer=(30,), tested=20) if small else recipe

    return [Row(name, paper, repr(of(recipe)), of(recipe).train) for name, (paper, recipe) in RECIPES.items()]


TABLE = Table("% wrong", ".2f", rows)

if __name__ == "__main__":
    main(TABLE, __doc__)
