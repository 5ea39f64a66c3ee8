"""Pascanu's regulariser Ω, which keeps the norm of the adjoint constant through time; it is added to any gradient method.

The state is the pre-activation a_t = W x_t + R φ(a_{t−1}) + b, as in the paper. With λ_t = ∂L/∂a_t (a row, of one stream):

    J_{t+1} = ∂a_{t+1}/∂a_t = R diag φ′(a_t)            (1)
    r_t = ‖λ_{t+1} J_{t+1}‖ / ‖λ_{t+1}‖                 (2)
    Ω = s Σ_t Σ_b (r_t − 1)²                            (3)     over t = 1..T−1 and streams b with λ_{t+1} ≠ 0

s follows the reduction of the model's loss: 1 for "sum" (the paper's equation 9), one over the number of terms for "mean", so that the
weight does not depend on T or B. The gradient is the immediate one: a and λ are constants, and Ω depends on R only, through (1):

    ∂⁺Ω/∂R = s Σ_t Σ_b 2 (r_t − 1) λᵀ (q ⊙ φ′(a_t)) / (‖q‖ ‖λ‖),  λ = λ_{t+1},  q = λ J_{t+1}      (4)

Both (2) and (4) depend on the direction of λ only. λ is scaled to length 1 first, so that a nearly vanished adjoint counts too.
In a stack each layer is regularised along its own recurrence. The paper also prints an equation 10 with r² for r, which its authors'
program uses; this is equation 9.

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
from ..models import AbstractModel
from ..nn import LayerTrace, add_to_grads
from ._base import AbstractGradient, Carry, Outcome, carried_state
from ._stations import run_with_steps, stack_of


class Omega(NamedTuple):
    """The regulariser on one batch, from ``omega``.

    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, cell=tt.cells.Elman(), hidden_size=8), torch.randint(9, (13, 4))
    >>> found = tt.gradients.omega(model, tt.Batch(text[:-1], text[1:]))
    >>> found.ratios[0].shape, found.gradients[0].shape  # (T − 1, B) and (H, H) of the only layer
    (torch.Size([11, 4]), torch.Size([8, 8]))
    """

    value: Tensor  # () Ω (3)
    ratios: tuple[Tensor, ...]  # a layer: (T−1, B) r_t (2), NaN where λ_{t+1} = 0
    gradients: tuple[Tensor, ...]  # a layer: (H, H) ∂⁺Ω/∂R (4)


@final
@dataclass(frozen=True)
class WithOmega(AbstractGradient):
    """The gradient of L + ``weight`` · Ω: any method's gradient plus that of Pascanu's regulariser on the recurrent weights.

    Use it for simple networks whose gradient vanishes over the lags that matter. λ is found by a separate pass back through the whole
    batch, so that a call takes about three times as long. The returned loss is L, without Ω.

    Args:
        method: the method that finds dL/dθ.
        weight: the factor of Ω. The paper uses 4 on its temporal-order task, with gradients clipped to a norm of 1.

    Raises:
        InputError: a weight that is negative or not finite.
        NotImplementedError: a cell other than the simple network.

    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, cell=tt.cells.Elman(), hidden_size=8), torch.randint(9, (13, 4))
    >>> method = tt.gradients.WithOmega(tt.gradients.FullBPTT(), 4.0)
    >>> loss, carry = method.accumulate(model, tt.Batch(text[:-1], text[1:]))
    """

    method: AbstractGradient
    weight: float
    agrees = "approximately"
    adds_over_streams = False  # the mean of Ω is over ratios, whose number depends on all of them

    def __post_init__(self) -> None:
        _check.at_least("the weight of omega", self.weight, 0)

    @property
    def carry_owner(self) -> str:
        return self.method.carry_owner

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        found = omega(model, batch, carried_state(carry, self.carry_owner))
        outcome = self.method.accumulate(model, batch, carry)
        for layer, gradient in enumerate(found.gradients):
            add_to_grads([model.recurrence.stored_parameters_of(layer).R], [self.weight * gradient])
        return outcome

    def logged(self, carry: Carry) -> Mapping[str, float]:
        return self.method.logged(carry)


def omega(model: AbstractModel, batch: Batch, state: State | None = None) -> Omega:
    """Ω of a batch, its ratios r_t and its immediate gradient. The model's gradients are not changed.

    Args:
        model: a model with a recurrence of ``cells.Elman``.
        batch: T steps of B streams.
        state: the state that the streams start from, S tensors (L, B, H); None: the model's initial state.

    Raises:
        NotImplementedError: a cell other than the simple network.
    """
    phi = _activation(stack_of(model, "omega").cell)
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # the method itself draws the same dropout after this
        trace = run_with_steps(model, batch, state, batch.fresh, "omega")
        adjoints = trace.input_half_adjoints(model.adjoint(trace.hs, batch))  # λ
    ratios, gradients = zip(*(_ratios(phi, layer, adjoint) for layer, adjoint in zip(trace.layers, adjoints, strict=True)), strict=True)
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


def _ratios(phi: AbstractActivation, layer: LayerTrace, adjoint: Tensor) -> tuple[Tensor, Tensor]:
    """r_t (T−1, B), NaN where λ_{t+1} = 0, and Σ ∂⁺(r_t − 1)²/∂R (H, H), from λ (T, B, 1, H)."""
    T, B = adjoint.shape[:2]
    direction = _of_length_one(adjoint[1:, :, 0].flatten(0, 1))  # ((T−1)·B, H) of λ_{t+1}
    there = direction.any(1)
    a, h = (s[:-1].flatten(0, 1) for s in ((layer.wx + layer.rh)[:, :, 0], layer.run.hs))
    with torch.enable_grad():
        R = layer.weights.R[0].clone().requires_grad_()
        q = phi.vjp(a, h, direction @ R)  # (1)
        ratio = torch.linalg.vector_norm(q, dim=1)  # (2)
        (gradient,) = torch.autograd.grad((ratio[there] - 1).square().sum(), [R])  # (4): all but R is constant
    return torch.where(there, ratio.detach(), torch.nan).view(T - 1, B), gradient


def _of_length_one(rows: Tensor) -> Tensor:
    """Each row over its norm; scaled by its largest element first, whose square may be too small to tell from 0."""
    rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return functional.normalize(rows, dim=1, eps=torch.finfo(rows.dtype).tiny)
