"""The plain loop: backpropagation through time as it is defined, one step after another. The truth for every faster path.

T time · B batch · I input · H hidden · G gates · S states; weights W (G, H, I), R (G, H, H).

Forward, for t = 1..T:

    wx_t = W x_t + b_ih             (1)     one product over all t
    rh_t = R h_{t−1} + b_hh         (2)
    s_t  = step(wx_t, rh_t, s_{t−1})    (3)     the cell's equations; h_t is s_t's first part

Backward, for t = T..1, with λ_t = ∂L/∂s_t in all (from the loss at t, and from t+1):

    λ_t = ∂L_t/∂s_t + λ^{(t+1→t)},  λ^{(T+1→T)} = ∂L/∂s_T from the caller       (4)
    λ_t ← λ_t · min(1, clip / ‖λ_t‖)        (5)     only where clipping at each time step is asked for
    dwx_t, drh_t, ds_t = step_vjp(λ_t)      (6)     the cell's equations differentiated
    λ^{(t→t−1)} = ds_t, its h-part + Rᵀ drh_t       (7)
    ∂L/∂s_0 = λ^{(1→0)}                     (8)

and, each one product over all t:

    dW = Σ_t dwx_t ⊗ x_t            (9)     db_ih = Σ_t dwx_t       (11)
    dR = Σ_t drh_t ⊗ h_{t−1}        (10)    db_hh = Σ_t drh_t       (12)     dx_t = Wᵀ dwx_t    (13)

References: Werbos, *Backpropagation through time: what it does and how to do it*, 1990.
"""

import torch
from torch import Tensor

from .._shapes import State
from ..cells import AbstractCell
from ._types import FORWARD, Gradients, LayerParameters, Parameters, RecurrentParameters, Run, Traversal


def forward(cell: AbstractCell, xs: Tensor, state: State, parameters: LayerParameters, traversal: Traversal = FORWARD) -> Run:
    """Step through ``xs`` (T, B, I) from ``state``, S tensors (B, H); keeps every pre-activation and state."""
    R, b_hh = parameters.R, parameters.b_hh
    T, B, G, H = *xs.shape[:2], *R.shape[:2]
    wxs = (
        xs if isinstance(parameters, RecurrentParameters) else _affine(xs.flatten(0, 1), parameters.W, parameters.b_ih).view(T, B, G, H)
    )  # (1)
    rhs = torch.empty_like(wxs)
    states = [s.new_empty(T + 1, B, H) for s in state]  # row k: the state after k steps, in the order of travel
    hs = xs.new_empty(T, B, H)
    for row, s in zip(states, state, strict=True):
        row[0] = s
    for k, t in enumerate(_order(T, traversal)):
        before = _starting_state(states, k, t, traversal)
        rhs[t] = _affine(before[0], R, b_hh).view(B, G, H)  # (2)
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
    dwxs, drhs, h_before = torch.empty_like(wxs), torch.empty_like(rhs), torch.empty_like(run.hs)
    carry: State = tuple(torch.zeros_like(s[0]) for s in states) if dlast is None else dlast
    drestart: State | None = None if traversal.restart is None else tuple(torch.zeros_like(s) for s in traversal.restart)
    for k, t in reversed(list(enumerate(_order(len(wxs), traversal)))):
        before, after = _starting_state(states, k, t, traversal), tuple(row[k + 1] for row in states)
        adjoint = carry if dhs is None else (carry[0] + dhs[t], *carry[1:])  # (4)
        adjoint = adjoint if clip is None else clip_adjoint(adjoint, clip)  # (5)
        dwx, drh, dbefore = cell.step_vjp(wxs[t], rhs[t], before, after, adjoint)  # (6)
        dbefore = (dbefore[0] + drh.flatten(1) @ parameters.R.flatten(0, 1), *dbefore[1:])  # (7)
        if traversal.lengths is not None:
            active = t < traversal.lengths
            dwx, drh, dbefore = _where_active(active, (dwx, drh, *dbefore), (torch.zeros_like(dwx), torch.zeros_like(drh), *carry))
        carry, drestart = _at_restart(dbefore, drestart, t, traversal)
        dwxs[t], drhs[t], h_before[t] = dwx, drh, before[0]  # h_before: what R multiplied at t
    dxs = _input_gradient(parameters, dwxs) if needs_dxs else None
    return Gradients(dxs, carry, _weight_gradients(parameters, xs, h_before, dwxs, drhs), drestart)  # (8)


def _where_active(active: Tensor, found: State, otherwise: State) -> tuple[Tensor, Tensor, State]:
    """dwx, drh and the adjoint before the step; a sequence that has ended, or not begun, passes its adjoint on untouched."""
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


def _order(T: int, traversal: Traversal) -> range:
    return range(T - 1, -1, -1) if traversal.reverse else range(T)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, K) by (G, H, K), plus (G, H), as (N, G·H)."""
    rows = weight.flatten(0, 1).T
    return x @ rows if bias is None else torch.addmm(bias.flatten(), x, rows)


def _restarts(traversal: Traversal, t: int) -> Tensor:
    """(B,) which sequences are replaced before step t; one that is over, or not begun, is not."""
    assert traversal.reset is not None, "the callers ask only where there is a reset mask"
    return traversal.reset[t] if traversal.lengths is None else traversal.reset[t] & (t < traversal.lengths)


def _starting_state(states: list[Tensor], k: int, t: int, traversal: Traversal) -> State:
    """The state that step t starts from: what k steps left, replaced where a reset stands."""
    before = tuple(row[k] for row in states)
    if traversal.reset is None:
        return before
    cut = _restarts(traversal, t).unsqueeze(1)
    restart = traversal.restart or tuple(torch.zeros_like(s) for s in before)
    return tuple(torch.where(cut, new, old) for new, old in zip(restart, before, strict=True))


def _input_gradient(parameters: LayerParameters, dwxs: Tensor) -> Tensor:
    """dxs (T, B, I); dwxs itself where wx was what came in."""
    return dwxs if isinstance(parameters, RecurrentParameters) else dwxs.flatten(2) @ parameters.W.flatten(0, 1)  # (13)


def _weight_gradients(parameters: LayerParameters, xs: Tensor, h_before: Tensor, dwxs: Tensor, drhs: Tensor) -> LayerParameters:
    dwx, drh = dwxs.flatten(2).flatten(0, 1), drhs.flatten(2).flatten(0, 1)  # (T·B, G·H)
    dR = (drh.T @ h_before.flatten(0, 1)).view_as(parameters.R)  # (10)
    db_hh = None if parameters.b_hh is None else drh.sum(0).view_as(parameters.b_hh)  # (12)
    if isinstance(parameters, RecurrentParameters):
        return RecurrentParameters(dR, db_hh)
    dW = (dwx.T @ xs.flatten(0, 1)).view_as(parameters.W)  # (9)
    return Parameters(dW, dR, None if parameters.b_ih is None else dwx.sum(0).view_as(parameters.b_ih), db_hh)  # (11)
