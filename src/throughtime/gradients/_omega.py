"""Pascanu's regulariser Ω, which keeps the gradient's norm as it travels back in time, on top of any gradient method.

The state is the pre-activation a_t = W x_t + R φ(a_{t−1}) + b, as in the paper. With λ_t = ∂L/∂a_t (a row, of one stream):

    J_{t+1} = ∂a_{t+1}/∂a_t = R diag φ′(a_t)            (1)
    r_t = ‖λ_{t+1} J_{t+1}‖ / ‖λ_{t+1}‖                 (2)
    Ω = s Σ_t Σ_b (r_t − 1)²                            (3)     over t = 1..T−1 and streams b with λ_{t+1} ≠ 0

s is as the model's loss is reduced: 1 for "sum" (the paper's equation 9), one over the number of terms for "mean", so that a weight
does not depend on T or B. The gradient is the immediate one: a and λ are constants, and Ω depends on R alone, through (1):

    ∂⁺Ω/∂R = s Σ_t Σ_b 2 (r_t − 1) λᵀ (q ⊙ φ′(a_t)) / (‖q‖ ‖λ‖),  λ = λ_{t+1},  q = λ J_{t+1}      (4)

Both (2) and (4) see the direction of λ alone; it is made of length 1 first, so that what has nearly vanished still counts.
A stack of layers is regularised layer by layer, each along its own recurrence. An equation 10 with r² for r is printed in the paper,
and used in its authors' program; this is equation 9.

T time · B batch · H hidden.

References: Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks*, 2013 (arXiv:1211.5063, §3.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional

from .. import _check
from .._shapes import State
from ..cells import AbstractActivation, AbstractCell, Elman
from ..data import Batch
from ..kernels import Parameters, recurrence
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome, carried_state, entering


class Omega(NamedTuple):
    """What the regulariser finds on one batch."""

    value: Tensor  # () Ω (3)
    ratios: tuple[Tensor, ...]  # a layer: (T−1, B) r_t (2), NaN where λ_{t+1} = 0
    gradients: tuple[Tensor, ...]  # a layer: (H, H) ∂⁺Ω/∂R (4)


class _Layer(NamedTuple):
    """A layer of the simple network on its way through time; what a_t is made of is fixed."""

    wx: Tensor  # (T, B, 1, H) its input half, whose gradient is λ
    rh: Tensor  # (T, B, H)
    hs: Tensor  # (T, B, H)
    R: Tensor  # (H, H)


@final
@dataclass(frozen=True)
class WithOmega(AbstractGradient):
    """The gradient of L + ``weight`` · Ω: any method's, and Pascanu's regulariser on the recurrent weights.

    For simple networks whose gradient vanishes over the lags that matter. λ is found by a pass of its own, back through the whole batch
    and no further, so finding the gradient takes about three times as long. The loss that is told is L, without Ω.

    Args:
        method: how dL/dθ is found.
        weight: of Ω; the paper takes 4 on its temporal-order task, with gradients clipped to a norm of 1.

    Raises:
        InputError: a weight that is negative or not finite.
        NotImplementedError: a cell other than the simple network.

    >>> from throughtime.gradients import FullBPTT
    >>> WithOmega(FullBPTT(), 4.0).weight
    4.0
    """

    method: AbstractGradient
    weight: float
    agrees = "approximately"

    def __post_init__(self) -> None:
        _check.at_least("the weight of omega", self.weight, 0)

    @property
    def keeper(self) -> str:
        return self.method.keeper

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        found = omega(model, batch, carried_state(carry, self.keeper))
        outcome = self.method.accumulate(model, batch, carry)
        for layer, gradient in enumerate(found.gradients):
            stored = model.recurrence.get_parameter(f"weight_hh_l{layer}")
            if stored.requires_grad:
                extra = self.weight * gradient
                stored.grad = extra if stored.grad is None else stored.grad + extra
        return outcome

    def logged(self, carry: Carry) -> Mapping[str, float]:
        return self.method.logged(carry)


def omega(model: AbstractModel, batch: Batch, state: State | None = None) -> Omega:
    """Ω of a batch, its ratios r_t and its immediate gradient; the model's own gradients are left alone.

    Args:
        model: with a recurrence of ``cells.Elman``.
        batch: T steps of B streams.
        state: that they start from, S tensors (L, B, H); None: the model's initial state.

    Raises:
        NotImplementedError: a cell other than the simple network.
    """
    phi = _activation(model.recurrence.cell)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():  # the method itself draws the same dropout after this
        layers, loss = _walk(model, batch, entering(model, state, batch.fresh, batch.B))
        adjoints = torch.autograd.grad(loss, [layer.wx for layer in layers])  # λ
    ratios, gradients = zip(*(_ratios(phi, layer, adjoint) for layer, adjoint in zip(layers, adjoints, strict=True)), strict=True)
    s = 1.0 if model.reduction == "sum" else 1.0 / max(1, sum(int(r.isfinite().sum()) for r in ratios))
    value = s * torch.stack([(r - 1).square().nansum() for r in ratios]).sum()  # (3)
    return Omega(value, ratios, tuple(s * gradient for gradient in gradients))


def _activation(cell: AbstractCell) -> AbstractActivation:
    if not isinstance(cell, Elman):
        raise NotImplementedError(
            f"omega is defined for the simple network, whose state is one pre-activation a step; the cell is {cell}. Use cells.Elman "
            "(--cell rnn); what keeps a gated cell's gradient alive is its memory gate: nn.ForgetBias, nn.Chrono (--forget-bias, --chrono)."
        )
    return cell.phi


def _walk(model: AbstractModel, batch: Batch, state: State) -> tuple[list[_Layer], Tensor]:
    """Forward, each layer's input half laid open, and the batch's loss."""
    stack, layers = model.recurrence, []
    below = model.enter(batch)
    for k in range(stack.num_layers):
        W, R, b_ih, b_hh = (None if p is None else p.detach()[0] for p in stack.parameters_of(k))
        assert W is not None, "a stack has all its weights"
        assert R is not None, "as above"
        if isinstance(below, Tensor):
            dropped = functional.dropout(below, stack.dropout, stack.training) if k else below
            wx = functional.linear(dropped, W, b_ih).unsqueeze(2)
        else:
            wx = below.through(W, b_ih).unsqueeze(2)
        wx = wx if k else wx.detach().requires_grad_()  # nothing below the first one is of interest
        h_0 = state[0][k].detach()
        below, _ = recurrence(stack.cell, wx, (h_0,), Parameters(None, R.unsqueeze(0), None, None if b_hh is None else b_hh.unsqueeze(0)))
        hs = below.detach()
        layers.append(_Layer(wx, functional.linear(torch.cat((h_0.unsqueeze(0), hs[:-1])), R, b_hh), hs, R))
    assert isinstance(below, Tensor), "a stack has a layer"
    return layers, model.losses(below, batch).sum()


def _ratios(phi: AbstractActivation, layer: _Layer, adjoint: Tensor) -> tuple[Tensor, Tensor]:
    """r_t (T−1, B), NaN where λ_{t+1} = 0, and Σ ∂⁺(r_t − 1)²/∂R (H, H)."""
    T, B, _ = layer.hs.shape
    direction = _of_length_one(adjoint[1:, :, 0].flatten(0, 1))  # ((T−1)·B, H) of λ_{t+1}
    there = direction.any(1)
    a, h = (s[:-1].flatten(0, 1) for s in (layer.wx.detach()[:, :, 0] + layer.rh, layer.hs))
    with torch.enable_grad():
        R = layer.R.clone().requires_grad_()
        q = phi.vjp(a, h, direction @ R)  # (1)
        ratio = torch.linalg.vector_norm(q, dim=1)  # (2)
        (gradient,) = torch.autograd.grad((ratio[there] - 1).square().sum(), [R])  # (4): all but R is constant
    return torch.where(there, ratio.detach(), torch.nan).view(T - 1, B), gradient


def _of_length_one(rows: Tensor) -> Tensor:
    """Each row over its norm; scaled by its largest element first, whose square may be too small to tell from 0."""
    rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return functional.normalize(rows, dim=1, eps=torch.finfo(rows.dtype).tiny)
