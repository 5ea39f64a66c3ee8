"""The adding problem at T = 600: remember two marked numbers among 600, say their sum at the end.

    python benchmarks/papers/adding.py --json benchmarks/results/papers-adding.json

Bai, Kolter & Koltun (2018, table 1), 70K parameters: mean squared error .164 for an LSTM, 5.3e-5 for a GRU, .177 for a simple network.
The constant answer 1 makes 1/6. Here: new sequences at every update, 10,000 other sequences at the end.

What made it work: chrono initialisation (Tallec & Ollivier 2018), which spreads the memory times of the gates over the sequence; 32 units
in place of 70K parameters; a high learning rate that falls to a hundredth. The row of the simple network is not tried again here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from _learn import learn, mean_loss
from _table import Outcome, Row, Table, count, main

from throughtime.cells import GRU, LSTM, AbstractCell
from throughtime.data import Batch, adding
from throughtime.models import Head, Linear, SequenceModel, SquaredError, Vectors
from throughtime.nn import AbstractInitialiser, Chrono, Recurrence, TorchUniform


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
        stack = Recurrence(self.cell, 2, self.hidden, initialisers=(TorchUniform(), *self.start))
        model = SequenceModel(Vectors(2), stack, Head(self.hidden, 1, output=Linear(), loss=SquaredError()))
        optimizer = torch.optim.Adam(model.parameters(), self.rate)
        learn(model, self.draw, optimizer, seed=seed, updates=self.updates, batch_size=self.batch_size)
        error = mean_loss(model, self.draw, sequences=self.tested, batch_size=min(500, self.tested))
        return Outcome(error, count(model), {})

    def draw(self, batch: int, generator: torch.Generator) -> Batch:
        return adding(self.length, batch, generator)


RECIPES = {
    "LSTM": ("0.164", Recipe(LSTM(), (Chrono(600),))),
    "GRU": ("5.3e-5", Recipe(GRU(), (Chrono(600),), updates=8000)),
}


def rows(small: bool) -> Sequence[Row]:
    made = {name: (paper, replace(r, updates=2, batch_size=2, length=20, tested=4) if small else r) for name, (paper, r) in RECIPES.items()}
    return [Row(name, paper, repr(recipe), recipe.train) for name, (paper, recipe) in made.items()]


TABLE = Table("mean squared error", ".1e", rows)

if __name__ == "__main__":
    main(TABLE, __doc__)
