"""Networks that something is wrong with, or looks as if it were, each with the verdict that it must get. For tests of what is told.

All are in float32, as people train; the batch is 48 steps of 4 streams over 7 symbols unless a case says otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch

from throughtime.cells import GRU, LSTM, AbstractCell, Elman, Identity, Relu
from throughtime.data import Batch
from throughtime.models import LanguageModel
from throughtime.nn import ForgetBias, IdentityMatrix, Orthogonal, TorchUniform

V, H, T, B = 7, 24, 48, 4


@final
@dataclass(frozen=True)
class Case:
    """A network with its batch, the verdict, and what its sentence or its first piece of advice must speak of."""

    name: str
    make: Callable[[], tuple[LanguageModel, Batch]]
    state: str
    words: str


def network(cell: AbstractCell, *rules, layers: int = 1) -> LanguageModel:
    torch.manual_seed(3)
    return LanguageModel(V, cell=cell, hidden_size=H, num_layers=layers, initialisers=[TorchUniform(), *rules]).float()


def text(T: int = T, B: int = B) -> Batch:
    ids = torch.randint(V, (T + 1, B), generator=torch.Generator().manual_seed(4))
    return Batch(ids[:-1], ids[1:])


def scaled(cell: AbstractCell, factor: float, *, T: int = T) -> tuple[LanguageModel, Batch]:
    """Torch's start with R many times as large."""
    model = network(cell)
    model.recurrence.weight_hh_l0.data.mul_(factor)
    return model, text(T)


def filled(cell: AbstractCell, weight: str, value: float, *, row: int | None = None) -> tuple[LanguageModel, Batch]:
    """One weight, or one gate's row of a bias, set to a value."""
    model = network(cell)
    data = dict(model.named_parameters())[weight].data
    (data if row is None else data[row * H : (row + 1) * H]).fill_(value)
    return model, text()


def one_number(value: float) -> tuple[LanguageModel, Batch]:
    model = network(GRU())
    model.recurrence.weight_hh_l0.data[1, 1] = value
    return model, text()


def beyond_float64() -> tuple[LanguageModel, Batch]:
    """States of 0, and an adjoint that grows 1e8 times at each step."""
    model, batch = scaled(Elman(Identity()), 1e8)
    for p in (model.input.weight, model.recurrence.bias_ih_l0, model.recurrence.bias_hh_l0):
        p.data.zero_()
    return model, batch


def chaotic() -> tuple[LanguageModel, Batch]:
    """Two ways of rounding the same steps part after some thirty of them."""
    return scaled(Elman(), 12.0, T=128)


def saturated() -> tuple[LanguageModel, Batch]:
    model = network(Elman())
    model.recurrence.weight_ih_l0.data.mul_(40)
    return model, text()


def dead_below() -> tuple[LanguageModel, Batch]:
    model = network(Elman(Relu()), Orthogonal(), layers=2)
    model.recurrence.bias_ih_l0.data.fill_(-50)
    return model, text()


def diverged() -> tuple[LanguageModel, Batch]:
    """A head so far out that every guess is certain, and mostly wrong."""
    model = network(GRU())
    model.head.weight.data.mul_(300)
    return model, text()


def zeros() -> tuple[LanguageModel, Batch]:
    model = network(Elman())
    for p in model.parameters():
        p.data.zero_()
    return model, text()


def one_unit() -> tuple[LanguageModel, Batch]:
    torch.manual_seed(3)
    return LanguageModel(V, cell=Elman(), hidden_size=1, embedding_size=3).float(), text()


def tiny() -> tuple[LanguageModel, Batch]:
    model = network(Elman(Identity()), Orthogonal())
    model.head.weight.data.mul_(1e-20)
    return model, text()


def last_loss_alone(cell: AbstractCell) -> tuple[LanguageModel, Batch]:
    weights = torch.zeros(T, B)
    weights[-1] = 1
    return network(cell), replace(text(), weights=weights)


def constant_input() -> tuple[LanguageModel, Batch]:
    return network(GRU()), replace(text(), inputs=torch.zeros(T, B, dtype=torch.long))


def huge_inputs() -> tuple[LanguageModel, Batch]:
    model = network(Elman())
    model.input.weight.data.mul_(1e6)
    return model, text()


CASES = [
    Case("exploding relu", lambda: scaled(Elman(Relu()), 8.0), "exploding", "gradient explodes"),
    Case("relu beyond float32", lambda: scaled(Elman(Relu()), 40.0), "exploding", "gradient explodes"),
    Case("a gradient beyond float64", beyond_float64, "exploding", "beyond float64"),
    Case(
        "states beyond float64", lambda: scaled(Elman(Identity()), 1e8), "refused", "hidden state of layer 0 is not a finite number at step"
    ),
    Case("exploding tanh", lambda: scaled(Elman(), 4.0), "exploding", "gradient explodes"),
    Case("chaotic tanh", chaotic, "exploding", "gradient explodes"),
    Case("vanishing tanh", lambda: scaled(Elman(), 0.5), "vanishing", "gradient vanishes"),
    Case("no recurrence", lambda: filled(Elman(), "recurrence.weight_hh_l0", 0.0), "vanishing", "vanishes at once"),
    Case("saturated tanh", saturated, "saturated", "saturated"),
    Case("huge inputs", huge_inputs, "saturated", "saturated"),
    Case("dead relu", lambda: filled(Elman(Relu()), "recurrence.bias_ih_l0", -50.0), "saturated", "dead"),
    Case("dead lower layer", dead_below, "saturated", "layer 0 are dead"),
    Case("diverged", diverged, "diverged", "guessing costs 1.95"),
    Case("a weight of nan", lambda: one_number(torch.nan), "refused", "weight recurrence.weight_hh_l0 has numbers that are not finite"),
    Case("a weight of inf", lambda: one_number(torch.inf), "refused", "weight recurrence.weight_hh_l0 has numbers that are not finite"),
    Case("irnn", lambda: (network(Elman(Relu()), IdentityMatrix()), text()), "healthy", "healthy"),
    Case("orthogonal", lambda: (network(Elman(Identity()), Orthogonal()), text()), "healthy", "healthy"),
    Case("one unit", one_unit, "vanishing", "vanishes"),
    Case("forget gate shut", lambda: (network(LSTM(), ForgetBias(-8.0)), text()), "vanishing", "vanishes"),
    Case("forget gate open", lambda: (network(LSTM(), ForgetBias(8.0)), text()), "healthy", "healthy"),
    Case("update gate shut", lambda: (network(GRU(), ForgetBias(-8.0)), text()), "vanishing", "vanishes"),
    Case("update gate stuck", lambda: (network(GRU(), ForgetBias(30.0)), text()), "saturated", "stuck"),
    Case("a loss at the last step alone", lambda: last_loss_alone(LSTM()), "vanishing", "vanishes"),
    Case("constant input", constant_input, "vanishing", "vanishes"),
    Case("zero weights", zeros, "vanishing", "0 at every lag"),
    Case("one step", lambda: (network(GRU()), text(1)), "unknown", "too few lags"),
    Case("two steps", lambda: (network(GRU()), text(2)), "unknown", "too few lags"),
    Case("tiny gradient", tiny, "healthy", "healthy"),
]
