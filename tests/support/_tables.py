"""What the batteries run over: adding a cell or a gradient method is adding a row."""

import re
from dataclasses import dataclass
from typing import final

import pytest
import torch

from throughtime.cells import GRU, LSTM, AbstractCell, Elman, Identity, Leaky, Relu, Sigmoid


@final
@dataclass(frozen=True)
class Coupled(AbstractCell):
    """A user's cell: two gates, two states, no ``step_vjp`` of its own, so differentiated by torch.func."""

    gates = 2
    states = 2

    def step(self, wx, rh, state):
        h, c = state
        keep = torch.sigmoid(wx[:, 0] + rh[:, 0])
        c_next = keep * c + (1 - keep) * torch.sin(wx[:, 1]) * torch.cos(rh[:, 1])
        return torch.tanh(c_next) + 0.1 * h, c_next


def bump(a):
    """An activation that nobody has named, with a slope of both signs."""
    return torch.exp(-a * a)


def mixing(a):
    """An activation that is not elementwise: every unit sees its whole layer."""
    return torch.softmax(a, -1)


def skewed(a):
    """As ``mixing``, with a Jacobian that is not symmetric."""
    return torch.tanh(a + 0.5 * a.roll(1, -1))


CELLS = [
    Elman(),
    Elman(Relu()),
    Elman(Identity()),
    Elman(Sigmoid()),
    Elman(bump),
    Elman(mixing),
    Elman(skewed),
    GRU(),
    LSTM(),
    Coupled(),
    Leaky(0.3),
]


def name(cell: AbstractCell) -> str:
    """The same in every process: a function's repr has its address."""
    return re.sub(r"<(?:function|built-in method) (\w+)[^>]*>", r"\1", repr(cell))


TORCH = {Elman(): torch.nn.RNN, GRU(): torch.nn.GRU, LSTM(): torch.nn.LSTM}


# What a cell can do that other code may have wrong: units that see one another, halves apart, two states, a user's own.
KINDS = [Elman(skewed), GRU(), LSTM(), Coupled()]


def first(quick, values):
    """Parameters of a test of which those in ``quick`` run with ``make test`` and all with ``make test-all``."""
    return [value if value in quick else pytest.param(*_tuple(value), marks=pytest.mark.slow) for value in values]


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)
