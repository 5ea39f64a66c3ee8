"""Where states and weights start: every rule beside what it sets. Adding a rule is adding a row."""

from dataclasses import dataclass

import torch

from throughtime.cells import GRU, LSTM, AbstractCell, Elman
from throughtime.nn import (
    AbstractInitial,
    AbstractInitialiser,
    Chrono,
    ForgetBias,
    Given,
    IdentityMatrix,
    Learnable,
    Orthogonal,
    Random,
    TorchUniform,
    Zeros,
)


def initials(S: int, L: int, H: int) -> list[AbstractInitial]:
    """Every rule for the first state of a stack of this size."""
    return [Zeros(), Random(0.5), Given(torch.linspace(-1, 1, S * L * H, dtype=torch.float64).view(S, L, H)), Learnable()]


INITIALS = initials(1, 1, 1)


@dataclass(frozen=True)
class Sets:
    """A rule, cells that take it, and of each array the gates that it sets: all of them, some by number, or none."""

    rule: AbstractInitialiser
    cells: tuple[AbstractCell, ...]
    W: bool = False
    R: bool = False
    biases: bool = False
    memory_biases: bool = False  # of the gates that keep and take in memory


ANY = (Elman(), GRU(), LSTM())
STARTS = [
    Sets(TorchUniform(), ANY, W=True, R=True, biases=True),
    Sets(Orthogonal(1.5), ANY, R=True),
    Sets(IdentityMatrix(0.5), ANY, R=True, biases=True),
    Sets(ForgetBias(2.0), ANY[1:], memory_biases=True),
    Sets(Chrono(9), ANY[1:], memory_biases=True),
]
INITIALISERS = [row.rule for row in STARTS]
