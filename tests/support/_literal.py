"""What the derivation tests share: the simple network with the weights in sight, and two ways of comparing.

T time · I input · H hidden · V outputs. One stream (B = 1), as in the texts, whose time runs 1..T: lists of steps keep a dummy at 0.
"""

from typing import NamedTuple

import torch
from _rounding import assert_close
from torch import Tensor

from throughtime.cells import AbstractCell
from throughtime.data import Batch
from throughtime.gradients import AbstractGradient, FullBPTT
from throughtime.models import AbstractInput, AbstractLoss, CrossEntropy, Head, SequenceModel, Softmax, Vectors
from throughtime.nn import AbstractInitial, Learnable, Recurrence


class Weights(NamedTuple):
    """A model's parameters, or their gradients, by torch's names; each text has letters of its own for them."""

    weight_ih: Tensor  # (G·H, I)
    weight_hh: Tensor  # (G·H, H)
    weight_out: Tensor  # (V, H)
    bias: Tensor | None  # (G·H,) b_ih + b_hh; as a gradient, that of either
    bias_out: Tensor | None  # (V,)
    initial: Tensor | None  # (S, H) the state before the first step, where it is a parameter


def network(
    cell: AbstractCell,
    input: AbstractInput | int,
    H: int,
    V: int,
    *,
    output=Softmax(),  # noqa: B008  a frozen dataclass
    loss: AbstractLoss = CrossEntropy(),  # noqa: B008  a frozen dataclass
    bias: bool = False,
    initial: AbstractInitial = Learnable(),  # noqa: B008  a frozen dataclass
    gain: float = 0.8,
    seed: int = 0,
) -> SequenceModel:
    """A float64 model with J = Σ_t J_t (a bare sum); every parameter, the initial state too, is normal with deviation gain/√columns."""
    station = Vectors(input) if isinstance(input, int) else input
    recurrence = Recurrence(cell, station.size, H, bias=bias, initial=initial)
    model = SequenceModel(station, recurrence, Head(H, V, bias=bias, output=output, loss=loss), reduction="sum").double()
    chance = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.data.normal_(0.0, gain / p.shape[-1] ** 0.5, generator=chance)
    return model


def weights(model: SequenceModel) -> Weights:
    """A copy of the model's parameters."""
    r = model.recurrence
    b = r.bias_ih_l0 + r.bias_hh_l0 if r.bias else None
    s_0 = r.initial[:, 0] if r.initial_rule.learnable else None
    every = (r.weight_ih_l0, r.weight_hh_l0, model.head.weight, b, model.head.bias, s_0)
    return Weights(*(None if p is None else p.detach().clone() for p in every))


def product(model: SequenceModel, batch: Batch, method: AbstractGradient = FullBPTT(), carry=None) -> tuple[Tensor, Weights]:  # noqa: B008  a frozen dataclass
    """The loss and every gradient as the package computes them."""
    model.zero_grad()
    loss = method.accumulate(model, batch, carry).loss
    r = model.recurrence
    b = r.bias_ih_l0.grad if r.bias else None
    if r.bias:
        same(b, r.bias_hh_l0.grad)  # the text's one bias is the sum of two; the gradient of either is the gradient of the sum
    c = model.head.bias
    s0 = r.initial.grad[:, 0] if r.initial_rule.learnable and r.initial.grad is not None else None
    return loss, Weights(r.weight_ih_l0.grad, r.weight_hh_l0.grad, model.head.weight.grad, b, None if c is None else c.grad, s0)


def one_stream(inputs: Tensor, targets: Tensor, *, weights: list[float] | None = None) -> Batch:
    """T steps of a single stream; ``weights`` says which steps have a loss."""
    stand = None if weights is None else torch.tensor(weights).unsqueeze(1)
    return Batch(inputs.unsqueeze(1), targets.unsqueeze(1), weights=stand)


def only(t: int, T: int) -> list[float]:
    """Weights that leave the loss of step t (counted from 1) alone."""
    return [float(step == t) for step in range(1, T + 1)]


def immediate(D: Tensor, v: Tensor) -> Tensor:
    """(H, H, K): the derivative of φ(A v) in A with v held fast, D = ∂φ/∂(A v): entry [r, i, j] is D_ri v_j."""
    return D.unsqueeze(2) * v


def same(product: Tensor, literal: Tensor) -> None:
    """Equal to the rounding of the longest path, and not because there is nothing."""
    assert literal.abs().max() > 0, "nothing but zeros: no comparison"
    assert_close([product], [literal])


def differs(slip: Tensor, truth: Tensor) -> None:
    """A formula as misprinted is not the truth: it is off by more than 1 % of the largest entry."""
    assert (slip - truth).abs().max() > 1e-2 * truth.abs().max()
