"""Copy memory at T = 1000: say ten symbols again, a thousand steps after they were read.

    python benchmarks/papers/copying.py --json benchmarks/results/papers-copying.json

Bai, Kolter & Koltun (2018, table 1), 16K parameters, mean loss of all T + 20 steps in nats: .0204 for an LSTM, .0197 for a GRU, .0202 for
a simple network. Who remembers nothing has 10 ln 8 / 1020 = .0204. Here: new sequences at every update, 1,000 other ones at the end.

What made it work: the simple network without a nonlinearity, whose recurrent matrix is orthogonal and stays so, passes state and gradient
through a thousand steps at their full length (Henaff, Szlam & LeCun 2016); torch's parametrisation keeps it orthogonal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from _learn import learn, mean_loss
from _table import Outcome, Row, Table, count, main
from torch.nn.utils.parametrizations import orthogonal

from throughtime.cells import Elman, Identity
from throughtime.data import Batch, copying
from throughtime.models import Head, OneHot, SequenceModel
from throughtime.nn import Orthogonal, Recurrence, TorchUniform

SYMBOLS = 10  # eight to remember, the blank, the signal


@dataclass(frozen=True)
class Recipe:
    hidden: int = 116
    rate: float = 3e-3
    rate_of_R: float = 3e-4
    updates: int = 1200
    batch_size: int = 20
    delay: int = 1000
    tested: int = 1000

    def train(self, seed: int) -> Outcome:
        stack = Recurrence(Elman(Identity()), SYMBOLS, self.hidden, initialisers=(TorchUniform(), Orthogonal()))
        orthogonal(stack, "weight_hh_l0", orthogonal_map="cayley")
        model = SequenceModel(OneHot(SYMBOLS), stack, Head(self.hidden, SYMBOLS))
        R = list(stack.parametrizations.parameters())
        others = [p for p in model.parameters() if all(p is not r for r in R)]
        optimizer = torch.optim.Adam([{"params": others, "lr": self.rate}, {"params": R, "lr": self.rate_of_R}])
        learn(model, self.draw, optimizer, seed=seed, updates=self.updates, batch_size=self.batch_size, every=100)
        loss = mean_loss(model, self.draw, sequences=self.tested, batch_size=min(100, self.tested))
        return Outcome(loss, count(model), {})

    def draw(self, batch: int, generator: torch.Generator) -> Batch:
        return copying(self.delay, batch, generator)


def rows(small: bool) -> Sequence[Row]:
    recipe = replace(Recipe(), updates=2, batch_size=2, delay=5, tested=4) if small else Recipe()
    return [Row("orthogonal linear network", "0.0202", repr(recipe), recipe.train)]


TABLE = Table("nats a step", ".1e", rows)

if __name__ == "__main__":
    main(TABLE, __doc__)
