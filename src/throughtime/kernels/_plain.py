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
from ._types import FORWARD, Gradients, Parameters, Run, Traversal


def forward(cell: AbstractCell, xs: Tensor, state: State, parameters: Parameters, traversal: Traversal = FORWARD) -> Run:
    """Step through ``xs`` (T, B, I) from ``state``, S tensors (B, H); keeps every pre-activation and state."""
    W, R, b_ih, b_hh = parameters
    T, B, G, H = *xs.shape[:2], *R.shape[:2]
    wxs = xs if W is None else _affine(xs.flatten(0, 1), W, b_ih).view(T, B, G, H)  # (1)
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
    parameters: Parameters,
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
    R_rows = parameters.R.flatten(0, 1)  # (G·H, H)
    dwxs, drhs = torch.empty_like(wxs), torch.empty_like(rhs)
    h_before = torch.empty_like(run.hs)  # (T, B, H) the h that R multiplied at t
    carry: State = tuple(torch.zeros_like(s[0]) for s in states) if dlast is None else dlast
    drestart = None if traversal.restart is None else [torch.zeros_like(s) for s in traversal.restart]
    for k, t in reversed(list(enumerate(_order(len(wxs), traversal)))):
        before = _starting_state(states, k, t, traversal)
        after = tuple(row[k + 1] for row in states)
        h_before[t] = before[0]
        adjoint = carry if dhs is None else (carry[0] + dhs[t], *carry[1:])  # (4)
        if clip is not None:
            adjoint = clip_adjoint(adjoint, clip)  # (5)
        dwx, drh, dbefore = cell.step_vjp(wxs[t], rhs[t], before, after, adjoint)  # (6)
        dbefore = (dbefore[0] + drh.flatten(1) @ R_rows, *dbefore[1:])  # (7)
        if traversal.lengths is not None:  # a sequence that has ended, or not begun, passes its adjoint on untouched
            active = (t < traversal.lengths).unsqueeze(1)
            dwx, drh = (torch.where(active.unsqueeze(2), d, 0) for d in (dwx, drh))
            dbefore = tuple(torch.where(active, new, old) for new, old in zip(dbefore, carry, strict=True))
        if traversal.reset is not None:  # the state was replaced here: its gradient goes to the replacement
            cut = _restarts(traversal, t).unsqueeze(1)
            if drestart is not None:
                drestart = [d + torch.where(cut, new, 0) for d, new in zip(drestart, dbefore, strict=True)]
            dbefore = tuple(torch.where(cut, 0, d) for d in dbefore)
        dwxs[t], drhs[t], carry = dwx, drh, dbefore
    weights = _weight_gradients(parameters, xs, h_before, dwxs, drhs)
    return Gradients(
        _input_gradient(parameters.W, dwxs) if needs_dxs else None, carry, weights, None if drestart is None else tuple(drestart)
    )  # (8)


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


def _input_gradient(W: Tensor | None, dwxs: Tensor) -> Tensor:
    """dxs (T, B, I); dwxs itself where wx was what came in."""
    return dwxs if W is None else dwxs.flatten(2) @ W.flatten(0, 1)  # (13)


def _weight_gradients(parameters: Parameters, xs: Tensor, h_before: Tensor, dwxs: Tensor, drhs: Tensor) -> Parameters:
    flat_dwx, flat_drh = dwxs.flatten(2).flatten(0, 1), drhs.flatten(2).flatten(0, 1)  # (T·B, G·H)
    W, R, b_ih, b_hh = parameters
    return Parameters(
        None if W is None else (flat_dwx.T @ xs.flatten(0, 1)).view_as(W),  # (9)
        (flat_drh.T @ h_before.flatten(0, 1)).view_as(R),  # (10)
        None if b_ih is None else flat_dwx.sum(0).view_as(b_ih),  # (11)
        None if b_hh is None else flat_drh.sum(0).view_as(b_hh),  # (12)
    )
