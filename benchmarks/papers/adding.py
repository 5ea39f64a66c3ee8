"""The adding problem at T = 600: remember two marked numbers among 600, say their sum at the end.

    python benchmarks/papers/adding.py --json benchmarks/results/papers-adding.json

Bai, Kolter & Koltun (2018, table 1), 70K parameters: mean squared error .164 for an LSTM, 5.3e-5 for a GRU, .177 for a simple network.
The constant answer 1 makes 1/6. Here: new sequences at every update, 10,000 other sequences at the end.

What made it work for the gated cells: chrono initialisation (Tallec & Ollivier 2018), which spreads the memory times of the gates over
the sequence; 32 units in place of 70K parameters; a high learning rate that falls to a hundredth.

For the simple network: two layers of relu units. The first starts without memory (R = 0), so that it learns what a single step means: its
value if it is marked, else nothing. The second starts with R = 1, as the IRNN of Le, Jaitly & Hinton (2015), and so adds up what the first
tells it, over any number of steps. Both R learn at a rate of a 300th of the other weights', since 600 steps multiply a small error of R.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from _learn import learn, mean_loss
from _table import Outcome, Row, Table, count, main

from throughtime.cells import GRU, LSTM, AbstractCell, Elman, Relu
from throughtime.data import Batch, adding
from throughtime.kernels import Parameters
from throughtime.models import Head, Linear, SequenceModel, SquaredError, Vectors
from throughtime.nn import AbstractInitialiser, Chrono, IdentityMatrix, Recurrence, TorchUniform


@dataclass(frozen=True)
class Recipe:
    cell: AbstractCell
    start: tuple[AbstractInitialiser, ...]
    hidden: int = 32
    rate: float = 1e-2
    updates: int = 6000
    batch_size: int = 20
    length: int = 600
    tested: int = 10_000

    def train(self, seed: int) -> Outcome:
        model = SequenceModel(Vectors(2), self.stack(), Head(self.hidden, 1, output=Linear(), loss=SquaredError()))
        learn(model, self.draw, self.optimizer(model), seed=seed, updates=self.updates, batch_size=self.batch_size)
        error = mean_loss(model, self.draw, sequences=self.tested, batch_size=min(500, self.tested))
        return Outcome(error, count(model), {})

    def stack(self) -> Recurrence:
        return Recurrence(self.cell, 2, self.hidden, initialisers=(TorchUniform(), *self.start))

    def optimizer(self, model: SequenceModel) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), self.rate)

    def draw(self, batch: int, generator: torch.Generator) -> Batch:
        return adding(self.length, batch, generator)


@dataclass(frozen=True)
class TwoLayers(Recipe):
    """A rate of its own for the recurrent weights."""

    rate_of_R: float = 1e-5

    def stack(self) -> Recurrence:
        return Recurrence(self.cell, 2, self.hidden, num_layers=2, initialisers=(TorchUniform(), *self.start))

    def optimizer(self, model: SequenceModel) -> torch.optim.Optimizer:
        weights = dict(model.named_parameters())
        R = [weights.pop(name) for name in list(weights) if "weight_hh" in name]
        return torch.optim.Adam([{"params": [*weights.values()], "lr": self.rate}, {"params": R, "lr": self.rate_of_R}])


@dataclass(frozen=True)
class SeeThenAdd(AbstractInitialiser):
    """The first layer without memory, R = 0; those above it add up, R = 1."""

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        IdentityMatrix(0.0)(cell, layers[:1])
        IdentityMatrix(1.0)(cell, layers[1:])


RECIPES = {
    "LSTM": ("0.164", Recipe(LSTM(), (Chrono(600),))),
    "GRU": ("5.3e-5", Recipe(GRU(), (Chrono(600),), updates=8000)),
    "simple network, two layers": ("0.177", TwoLayers(Elman(Relu()), (SeeThenAdd(),), rate=3e-3)),
}


def rows(small: bool) -> Sequence[Row]:
    made = {name: (paper, replace(r, updates=2, batch_size=2, length=20, tested=4) if small else r) for name, (paper, r) in RECIPES.items()}
    return [Row(name, paper, repr(recipe), recipe.train) for name, (paper, recipe) in made.items()]


TABLE = Table("mean squared error", ".1e", rows)

if __name__ == "__main__":
    main(TABLE, __doc__)
