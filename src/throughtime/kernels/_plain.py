"""The plain loop: backpropagation through time as defined, step by step. Every faster implementation is compared with it.

T time · B batch · I input · H hidden · G gates · S states; weights W (G, H, I), R (G, H, H).

Forward, for t = 1..T:

    wx_t = W x_t + b_ih             (1)     one product over all t
    rh_t = R h_{t−1} + b_hh         (2)
    s_t  = step(wx_t, rh_t, s_{t−1})    (3)     the cell's equations; h_t is s_t's first part

Backward, for t = T..1, with λ_t = ∂L/∂s_t in total (from the loss at t and from step t+1):

    λ_t = ∂L_t/∂s_t + λ^{(t+1→t)},  λ^{(T+1→T)} = ∂L/∂s_T from the caller       (4)
    λ_t ← λ_t · min(1, clip / ‖λ_t‖)        (5)     only with clipping at each time step
    dwx_t, drh_t, ds_t = step_vjp(λ_t)      (6)     the cell's equations differentiated
    λ^{(t→t−1)} = ds_t, its h-part + Rᵀ drh_t       (7)
    ∂L/∂s_0 = λ^{(1→0)}                     (8)

and, each one product over all t:

    dW = Σ_t dwx_t ⊗ x_t            (9)     db_ih = Σ_t dwx_t       (11)
    dR = Σ_t drh_t ⊗ h_{t−1}        (10)    db_hh = Σ_t drh_t       (12)     dx_t = Wᵀ dwx_t    (13)

A cell may have late gates, whose R multiplies not h_{t−1} but q_t, which the cell's other gates decide. With R' the blocks of these gates:

    q_t = between(wx_t, rh_t, s_{t−1}),  rh'_t = R' q_t + b_hh      (2')    after the other rows of (2)
    dq_t = R'ᵀ drh'_t, which between's own derivative adds to dwx_t, drh_t, ds_t        (7')    dR' = Σ_t drh'_t ⊗ q_t  (10')

References: Werbos, *Backpropagation through time: what it does and how to do it*, 1990.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .._shapes import State
from ..cells import AbstractCell
from . import generated
from ._types import FORWARD, Gradients, LayerParameters, Parameters, RecurrentParameters, Run, Traversal


def forward(cell: AbstractCell, xs: Tensor, state: State, parameters: LayerParameters, traversal: Traversal = FORWARD) -> Run:
    """Step through ``xs`` (T, B, I) from ``state``, S tensors (B, H); keeps every pre-activation and state."""
    (T, B), (rows, H) = xs.shape[:2], parameters.R.shape[:2]
    wxs = xs if isinstance(parameters, RecurrentParameters) else _affine(xs, parameters.W, parameters.b_ih)  # (1)
    rhs = wxs.new_empty(T, B, rows, H)
    states = [s.new_empty(T + 1, B, H) for s in state]  # row k: the state after k steps, in the order of travel
    hs = xs.new_empty(T, B, H)
    for row, s in zip(states, state, strict=True):
        row[0] = s
    for k, t in enumerate(_order(T, traversal)):
        before = _starting_state(states, k, t, traversal)
        rhs[t] = recurrent_half(cell, wxs[t], before, parameters.R, parameters.b_hh)  # (2)
        after = cell.step(wxs[t], rhs[t], before)  # (3)
        if traversal.lengths is not None:
            active = (t < traversal.lengths).unsqueeze(1)  # (B, 1)
            hs[t] = torch.where(active, after[0], 0)
            after = tuple(torch.where(active, new, row[k]) for new, row in zip(after, states, strict=True))
        else:
            hs[t] = after[0]
        for row, s in zip(states, after, strict=True):
            row[k + 1] = s
    return Run(hs, tuple(row[T].clone() for row in states), (wxs, rhs, *states))


def backward(
    cell: AbstractCell,
    xs: Tensor,
    parameters: LayerParameters,
    run: Run,
    dhs: Tensor | None,
    dlast: State | None,
    traversal: Traversal = FORWARD,
    *,
    clip: float | None = None,
    needs_dxs: bool = True,
) -> Gradients:
    """The recursion (4)–(13). ``dhs`` (T, B, H) arrives at every output, ``dlast`` at the last state; either may be None."""
    wxs, rhs, *states = run.residuals
    vectors = bool(generated.learned_vectors(cell))
    rows = _Rows(
        torch.empty_like(wxs),
        torch.empty_like(rhs),
        tuple(torch.empty_like(s[1:]) for s in (states if vectors or cell.late_gates > 0 else states[:1])),
        tuple(torch.empty_like(s[1:]) for s in states) if vectors else (),
    )
    carry: State = tuple(torch.zeros_like(s[0]) for s in states) if dlast is None else dlast
    drestart: State | None = None if traversal.restart is None else tuple(torch.zeros_like(s) for s in traversal.restart)
    for k, t in reversed(list(enumerate(_order(len(wxs), traversal)))):
        before, after = _starting_state(states, k, t, traversal), tuple(row[k + 1] for row in states)
        adjoint = carry if dhs is None else (carry[0] + dhs[t], *carry[1:])  # (4)
        adjoint = adjoint if clip is None else clip_adjoint(adjoint, clip)  # (5)
        dwx, drh, dbefore = cell.step_vjp(wxs[t], rhs[t], before, after, adjoint)  # (6)
        dwx, drh, dbefore = through_R(cell, parameters.R, wxs[t], rhs[t], before, (dwx, drh, dbefore))  # (7)
        if traversal.lengths is not None:
            active = t < traversal.lengths
            dwx, drh, dbefore = _where_active(active, (dwx, drh, *dbefore), (torch.zeros_like(dwx), torch.zeros_like(drh), *carry))
            adjoint = tuple(torch.where(active.unsqueeze(1), d, 0) for d in adjoint)
        carry, drestart = _at_restart(dbefore, drestart, t, traversal)
        rows.put(t, dwx, drh, before, adjoint)
    dxs = _input_gradient(parameters, rows.dwx) if needs_dxs else None
    weights = _weight_gradients(cell, parameters, xs, (wxs, rhs), rows)
    vectors = _vector_gradients(cell, parameters.R, (wxs, rhs), rows)
    return Gradients(dxs, carry, weights, drestart, vectors)  # (8)


class _Rows(NamedTuple):
    """What the sums over time need of each step: the adjoints of both halves, the state before, and the adjoint of the state after."""

    dwx: Tensor  # (T, B, G, H)
    drh: Tensor  # (T, B, rows of R, H)
    before: State  # h (T, B, H), for R; all S states where late gates or learned vectors need them
    adjoint: State  # S tensors (T, B, H), where learned vectors need them; else none

    def put(self, t: int, dwx: Tensor, drh: Tensor, before: State, adjoint: State) -> None:
        self.dwx[t], self.drh[t] = dwx, drh
        for all_steps, one in ((self.before, before), (self.adjoint, adjoint)):
            for into, s in zip(all_steps, one, strict=False):
                into[t] = s


def through_R(
    cell: AbstractCell, R: Tensor, wx: Tensor, rh: Tensor, before: State, found: tuple[Tensor, Tensor, State]
) -> tuple[Tensor, Tensor, State]:
    """(7), from the gradients (6) of wx, rh and the state before."""
    dwx, drh, dbefore = found
    early = cell.rh_gates - cell.late_gates
    if cell.late_gates > 0:
        dbetween = drh[:, early:].flatten(1) @ R[early:].flatten(0, 1)  # (7')
        d_wx, d_rh, d_before = cell.between_vjp(wx, rh[:, :early], before, dbetween)
        dwx, drh = dwx + d_wx, torch.cat((drh[:, :early] + d_rh, drh[:, early:]), 1)
        dbefore = tuple(map(torch.add, dbefore, d_before))
    return dwx, drh, (dbefore[0] + drh[:, :early].flatten(1) @ R[:early].flatten(0, 1), *dbefore[1:])


def _where_active(active: Tensor, found: State, otherwise: State) -> tuple[Tensor, Tensor, State]:
    """dwx, drh and the adjoint before the step. A sequence that has ended, or not begun, passes its adjoint on unchanged."""
    dwx, drh, *dbefore = (torch.where(active.view(-1, *[1] * (new.ndim - 1)), new, old) for new, old in zip(found, otherwise, strict=True))
    return dwx, drh, tuple(dbefore)


def _at_restart(dbefore: State, drestart: State | None, t: int, traversal: Traversal) -> tuple[State, State | None]:
    """Where the state was replaced before step t, its adjoint goes to the replacement."""
    if traversal.reset is None:
        return dbefore, drestart
    cut = _restarts(traversal, t).unsqueeze(1)
    if drestart is not None:
        drestart = tuple(d + torch.where(cut, new, 0) for d, new in zip(drestart, dbefore, strict=True))
    return tuple(torch.where(cut, 0, d) for d in dbefore), drestart


def clip_adjoint(adjoint: State, limit: float) -> State:
    """(5): scale each sample's λ_t, all S states together, to a norm of at most ``limit``."""
    norm = torch.stack([s.square().sum(1) for s in adjoint]).sum(0).sqrt()  # (B,)
    scale = (limit / norm.clamp_min(limit)).unsqueeze(1)
    return tuple(s * scale for s in adjoint)


def recurrent_half(cell: AbstractCell, wx: Tensor, state: State, R: Tensor, b_hh: Tensor | None) -> Tensor:
    """(2), (B, rows of R, H); of the late gates by (2')."""
    early = cell.rh_gates - cell.late_gates
    if cell.late_gates == 0:
        return _affine(state[0], R, b_hh)
    rh = _affine(state[0], R[:early], None if b_hh is None else b_hh[:early])
    return torch.cat((rh, _affine(generated.between(cell, wx, rh, state), R[early:], None if b_hh is None else b_hh[early:])), 1)


def _order(T: int, traversal: Traversal) -> range:
    return range(T - 1, -1, -1) if traversal.reverse else range(T)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(…, K) by (G, H, K), plus (G, H), as (…, G, H)."""
    product = functional.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
    return product.unflatten(-1, weight.shape[:2])


def _restarts(traversal: Traversal, t: int) -> Tensor:
    """(B,) True for the sequences whose state is replaced before step t; False for one that has ended or not begun."""
    assert traversal.reset is not None, "the callers ask only where there is a reset mask"
    return traversal.reset[t] if traversal.lengths is None else traversal.reset[t] & (t < traversal.lengths)


def _starting_state(states: list[Tensor], k: int, t: int, traversal: Traversal) -> State:
    """The state that step t starts from: the state after k steps, replaced where ``reset`` is True."""
    before = tuple(row[k] for row in states)
    if traversal.reset is None:
        return before
    cut = _restarts(traversal, t).unsqueeze(1)
    restart = traversal.restart or tuple(torch.zeros_like(s) for s in before)
    return tuple(torch.where(cut, new, old) for new, old in zip(restart, before, strict=True))


def _input_gradient(parameters: LayerParameters, dwxs: Tensor) -> Tensor:
    """dxs (T, B, I); dwxs itself if the caller gave wx."""
    return dwxs if isinstance(parameters, RecurrentParameters) else dwxs.flatten(2) @ parameters.W.flatten(0, 1)  # (13)


def _weight_gradients(
    cell: AbstractCell, parameters: LayerParameters, xs: Tensor, halves: tuple[Tensor, Tensor], rows: _Rows
) -> LayerParameters:
    dwx, drh = rows.dwx.flatten(2).flatten(0, 1), rows.drh.flatten(0, 1)  # (T·B, G·H), (T·B, rows of R, H)
    early = cell.rh_gates - cell.late_gates
    dR = drh[:, :early].flatten(1).T @ rows.before[0].flatten(0, 1)  # (10)
    if cell.late_gates > 0:
        wx, rh = (half.flatten(0, 1) for half in halves)
        between = cell.between(wx, rh[:, :early], tuple(s.flatten(0, 1) for s in rows.before))
        dR = torch.cat((dR, drh[:, early:].flatten(1).T @ between))  # (10')
    dR = dR.view_as(parameters.R)
    db_hh = None if parameters.b_hh is None else drh.sum(0)  # (12)
    if isinstance(parameters, RecurrentParameters):
        return RecurrentParameters(dR, db_hh)
    dW = (dwx.T @ xs.flatten(0, 1)).view_as(parameters.W)  # (9)
    return Parameters(dW, dR, None if parameters.b_ih is None else dwx.sum(0).view_as(parameters.b_ih), db_hh)  # (11)


def _vector_gradients(cell: AbstractCell, R: Tensor, halves: tuple[Tensor, Tensor], rows: _Rows) -> Tensor | None:
    """The gradients of the cell's own learned vectors, (L, H), all steps at once; None if it has none."""
    if not generated.learned_vectors(cell):
        return None
    wx, rh, drh = (half.flatten(0, 1) for half in (*halves, rows.drh))
    before, adjoint = (tuple(s.flatten(0, 1) for s in states) for states in (rows.before, rows.adjoint))
    early = cell.rh_gates - cell.late_gates
    dbetween = drh[:, early:].flatten(1) @ R[early:].flatten(0, 1) if cell.late_gates > 0 else None
    return generated.vector_gradients(cell, wx, rh, before, adjoint, dbetween)
