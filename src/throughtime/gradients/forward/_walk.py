"""What the methods that run forward in time share: the walk, with every layer linearised at every step.

T time · B batch · I input · H hidden · G gates · S states · L layers · N any of (T, B) or (B) side by side · K tangents or adjoints.

Layer l at step t, with x̂ = (x; 1) and ĥ = (h; 1) where there are biases, and m the mask that dropout has drawn (1 where it is off):

    s_t^l = f(W^l x̂_t^l, R^l ĥ_{t−1}^l, s_{t−1}^l),     x_t^l = m_t^l ⊙ h_t^{l−1},  x_t^0 from the input station     (1)

The layers together are one state, s_t = (s_t^0 … s_t^{L−1}). Its Jacobian J_t is block lower triangular within the step: layer l sees
its own past, and by x_t^l all that the layers below have just become. Nothing here forms J_t whole; a layer gives its two blocks

    ∂s_t^l/∂s_{t−1}^l = ∂f/∂(rh) R + ∂f/∂s      (2)         ∂s_t^l/∂h_t^{l−1} = ∂f/∂(wx) W diag(m)      (3)

or their products with tangents (``push``) and adjoints (``pull``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ... import _check
from ..._shapes import State
from ...cells import StepDerivative, derivative
from ...data import Batch
from ...kernels import _plain
from ...models import AbstractModel
from .._base import Carry, carried_state, entering
from ._table import Table


class Entry(NamedTuple):
    """Where a call starts."""

    state: State  # S tensors (L, B, H), detached; the initial one in place of what a fresh stream carried
    fresh: Tensor  # (B,) which streams start here
    kept: Mapping[str, Tensor]  # what the method kept; empty at a beginning, or after another method


class Pulled(NamedTuple):
    """An adjoint of s_t taken back through one layer's step."""

    wx: Tensor  # (G, *K, N, H)
    rh: Tensor  # (G, *K, N, H)
    before: Tensor  # (S, *K, N, H) at s_{t−1}, the path through R in it
    below: Tensor  # (*K, N, I) at what the layer below gave, before the mask


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """One layer over all T steps, linearised where it was."""

    W: Tensor  # (G, H, I)
    R: Tensor  # (G, H, H)
    linear: StepDerivative  # at N = T·B points, time first
    mask: Tensor | None  # (T, B, I) what dropout multiplied the layer's input by
    xs: Tensor  # (T, B, I + 1) x̂, or x without biases
    h_prevs: Tensor  # (T, B, H + 1) ĥ entering each step, or h

    def at(self, t: int) -> StepDerivative:
        """The derivative at step t, N = B."""
        B, d = self.xs.shape[1], self.linear
        by_wx, by_rh, by_state = (x.narrow(2, t * B, B) for x in (d.by_wx, d.by_rh, d.by_state))
        return StepDerivative(by_wx, by_rh, by_state, d.elementwise)

    def jacobian(self, t: int) -> Tensor:
        """(2), (B, S·H, S·H); rows and columns run over (S, H)."""
        d = self.at(t)
        if d.elementwise:
            by_h = torch.einsum("pgni,gij->npij", d.by_rh, self.R)
            by_state = torch.diag_embed(d.by_state).permute(2, 0, 3, 1, 4)  # (B, S, H, S, H)
        else:
            by_h = torch.einsum("pgnik,gkj->npij", d.by_rh, self.R)
            by_state = d.by_state.permute(2, 0, 3, 1, 4)
        J = by_state.contiguous()
        J[:, :, :, 0] += by_h
        return J.flatten(3).flatten(1, 2)

    def by_below(self, t: int) -> Tensor:
        """(3), (B, S·H, I)."""
        d = self.at(t)
        C = torch.einsum("pgni,gij->npij" if d.elementwise else "pgnik,gkj->npij", d.by_wx, self.W).flatten(1, 2)
        return C if self.mask is None else C * self.mask[t].unsqueeze(1)

    def push(self, t: int, dstate: Tensor, dbelow: Tensor | None) -> Tensor:
        """Tangents of s_t, (S, *K, B, H), from those of s_{t−1} and of what the layer below gives at t, (*K, B, I)."""
        drh = torch.einsum("...j,gij->g...i", dstate[0], self.R)
        if dbelow is None:
            return self.at(t).push(torch.zeros_like(drh), drh, dstate)
        dx = dbelow if self.mask is None else dbelow * self.mask[t]
        return self.at(t).push(torch.einsum("...j,gij->g...i", dx, self.W), drh, dstate)

    def pull(self, t: int | None, adjoint: Tensor) -> Pulled:
        """Adjoints from those of s_t, (S, *K, B, H); with t None of all steps at once, N = T·B."""
        mask = None if self.mask is None else self.mask.flatten(0, 1) if t is None else self.mask[t]
        wx, rh, before = (self.linear if t is None else self.at(t)).pull(adjoint)
        before[0] += torch.einsum("g...i,gij->...j", rh, self.R)
        below = torch.einsum("g...i,gij->...j", wx, self.W)
        return Pulled(wx, rh, before, below if mask is None else below * mask)


@final
@dataclass(frozen=True, eq=False)
class Trajectory:
    """A batch walked through once."""

    layers: list[Layer]
    table: Table | None  # where the input station is an embedding
    hs: Tensor  # (T, B, H) of the last layer
    last: State  # S tensors (L, B, H)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """S, L, B, H."""
        S, (L, B, H) = len(self.last), self.last[0].shape
        return S, L, B, H


def enter(model: AbstractModel, batch: Batch, carry: Carry | State | None, made_by: str) -> Entry:
    """The state to start from, and what the method kept of these streams."""
    state = carried_state(carry, made_by)
    none = torch.zeros(batch.B, dtype=torch.bool, device=batch.inputs.device)
    if state is None:
        return Entry(_detached(model.initial_state(batch.B)), ~none, {})
    r = model.recurrence
    _check.state(state, [(r.num_layers, batch.B, r.hidden_size)] * r.cell.states)
    kept = carry.kept if isinstance(carry, Carry) else {}
    return Entry(_detached(entering(model, state, batch.fresh, batch.B)), none if batch.fresh is None else batch.fresh, kept)


@torch.no_grad()
def walk(model: AbstractModel, batch: Batch, entry: Entry) -> Trajectory:
    """Run every layer over the batch, one after another, and linearise each at all its steps at once."""
    r = model.recurrence
    layers, lasts, below = [], [], model.input(batch.inputs)
    for l in range(r.num_layers):
        mask = _mask(below, model.dropout.p, model.training) if l == 0 else _mask(below, r.dropout, r.training)
        xs = below if mask is None else below * mask
        run = _plain.forward(r.cell, xs, tuple(s[l] for s in entry.state), r.parameters_of(l))
        layers.append(_linearise(model, l, xs, mask, run.residuals))
        below = run.hs
        lasts.append(run.last)
    last = tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))
    return Trajectory(layers, Table.of(model, batch, entry.kept), below, last)


def immediate(model: AbstractModel, hs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss, and c_t = ∂L_t/∂h_t of every step (T, B, H). The head's own gradient, which is exact, is added on the way."""
    with torch.enable_grad():
        leaf = hs.detach().requires_grad_()
        loss = model.losses(leaf, batch).sum() * model.scale(batch)
        loss.backward()
    assert leaf.grad is not None, "losses are a function of hs"
    return loss.detach(), leaf.grad


def restart(kept: Tensor, fresh: Tensor, begin: Tensor | float = 0.0) -> Tensor:
    """``kept`` (B, …), with ``begin`` in place of what belongs to streams that start anew."""
    if not bool(fresh.any()):
        return kept
    return torch.where(fresh.view(-1, *[1] * (kept.ndim - 1)), torch.as_tensor(begin, dtype=kept.dtype, device=kept.device), kept)


def _linearise(model: AbstractModel, l: int, xs: Tensor, mask: Tensor | None, kept: tuple[Tensor, ...]) -> Layer:
    wxs, rhs, *states = kept
    W, R, b_ih, _ = model.recurrence.parameters_of(l)
    before = tuple(s[:-1] for s in states)
    linear = derivative(model.recurrence.cell, wxs.flatten(0, 1), rhs.flatten(0, 1), tuple(s.flatten(0, 1) for s in before))
    if b_ih is None:
        return Layer(W, R, linear, mask, xs, before[0])  # type: ignore[arg-type]  a stack has all its weights
    return Layer(W, R, linear, mask, _with_one(xs), _with_one(before[0]))  # type: ignore[arg-type]


def _mask(xs: Tensor, p: float, training: bool) -> Tensor | None:
    """What dropout would multiply ``xs`` by, from the same draws of chance; None where it is off."""
    return nn.functional.dropout(torch.ones_like(xs), p) if training and p > 0 else None


def _with_one(xs: Tensor) -> Tensor:
    return nn.functional.pad(xs, (0, 1), value=1.0)


def _detached(state: State) -> State:
    return tuple(s.detach() for s in state)
