"""Traces within one unit, which SnAp-1, e-prop and RFLO have in common.

T time · B batch · I input · H hidden · G gates · S states · L layers · r rows of the embedding that have occurred.

Each parameter θ of unit j has a trace of S numbers, one for each state of the unit. D_t (S, S) takes it from step to step:

    ε_t = D_t ε_{t−1} + ∂s_{j,t}/∂θ         (1)         dL/dθ ≈ Σ_t ℓ_t ε_t[h],  ℓ_t the learning signal at h_{j,t}     (2)

The methods differ in D and ℓ only. Over the T steps of one call, (1) and (2) are summed in the other order, as in ``BlockRTRL``. This
gives the same numbers in two matrix products instead of T passes over all traces:

    μ_t = ℓ_t + D_{t+1}ᵀ μ_{t+1}            (3)         Σ_t ℓ_t ε_t = Σ_t μ_t ∂s_t/∂θ + (D_1ᵀ μ_1) ε_0              (4)
    Ψ_T = 1,  Ψ_{t−1} = Ψ_t D_t             (5)         ε_T = Σ_t Ψ_t ∂s_t/∂θ + Ψ_0 ε_0                            (6)

An embedding enters through wx_v = W e_v + b, a table whose entries reach one unit each. It has a trace for each unit and symbol, and
∂L/∂e_v = Wᵀ ∂L/∂wx_v. A learnable initial state is a parameter of its unit, with ε_0 = 1. So are the cell's own learned vectors, whose
entries act on their unit as a weight does whose input is always 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..._shapes import State
from ...data import Batch
from ...kernels import learned_vectors
from ...models import AbstractModel
from ...nn import LayerTrace
from .._base import Carry, Outcome
from ._columns import add_initial, add_own, add_unit_gradients, unit_inputs
from ._feedback import AbstractFeedback
from ._run import Entry, ForwardRun, enter, learns_initial, restart, run_forward


class _Traces(NamedTuple):
    """ε of one layer and every stream."""

    wx: Tensor  # (B, S, G, H, I + 1 + r)
    rh: Tensor  # (B, S, G, H, H + 1)
    own: Tensor  # (B, S, V, H, 1)
    initial: Tensor  # (B, S, S, H)


def accumulate_local(
    name: str,
    model: AbstractModel,
    batch: Batch,
    carry: Carry | State | None,
    *,
    feedback: AbstractFeedback,
    passed_on: Callable[[LayerTrace], Tensor],
) -> Outcome:
    """One call of a method whose traces stay within their unit.

    Args:
        name: the method's repr.
        model: as in ``AbstractGradient.accumulate``; so are ``batch`` and ``carry``.
        feedback: gives ℓ.
        passed_on: gives D of a layer at all steps, (S, S, T·B, H); entry [p, q] takes state q of a unit to its state p.
    """
    entry = enter(model, batch, carry, name)
    run = run_forward(model, batch, entry, name)
    loss, signals = feedback.signals(model, run, batch)
    table = run.table
    kept: dict[str, Tensor] = {} if table is None else {"rows": table.rows}
    with torch.no_grad():
        for l, layer in enumerate(run.layers):
            xs = unit_inputs(run, l, name)
            wx, rh, own, initial, end = _of_layer(layer, xs, passed_on(layer), signals[l], _begin(run, entry, l, xs))
            add_unit_gradients(model, run, l, wx, rh)
            add_own(layer.cell, own.view(-1, layer.run.hs.shape[2]))
            if learns_initial(model):
                add_initial(model, l, initial)
            kept |= {f"{part}.{l}": trace for part, trace in zip(_Traces._fields, end, strict=True)}
    return Outcome(loss, Carry(run.trace.last, kept, name))


def _begin(run: ForwardRun, entry: Entry, l: int, xs: Tensor) -> _Traces:
    """ε_0: the carried traces; for streams that start anew zeros, except for the 1 of the initial state."""
    (S, _, B, H), layer, table = run.sizes, run.layers[l], run.table
    if entry.kept:
        wx, rh, own, initial = (entry.kept[f"{name}.{l}"] for name in _Traces._fields)
        if l == 0 and table is not None:
            columns = layer.W_inputs.shape[2]
            wx = torch.cat((wx[..., :columns], table.grown(wx[..., columns:], entry.kept["rows"], wx.ndim - 1)), -1)
    else:
        cell = layer.cell
        sizes = (cell.gates, xs.shape[2]), (cell.rh_gates, layer.R_inputs.shape[2]), (len(learned_vectors(cell)), 1)
        wx, rh, own = (xs.new_zeros(B, S, rows, H, width) for rows, width in sizes)
        initial = xs.new_zeros(B, S, S, H)
    one = torch.eye(S, dtype=xs.dtype, device=xs.device).unsqueeze(2)
    wx, rh, own = (restart(trace, entry.fresh) for trace in (wx, rh, own))
    return _Traces(wx, rh, own, restart(initial, entry.fresh, one))


def _of_layer(layer: LayerTrace, xs: Tensor, D: Tensor, signal: Tensor, begin: _Traces) -> tuple[Tensor, Tensor, Tensor, Tensor, _Traces]:
    """(4) as gradients (G·H, ·) of wx's and rh's parameters, (V·H, 1) of the cell's own and (S, H) of the initial state; and (6)."""
    steps, first = _back(D, signal)  # (S, 1 + S, T·B, H), (S, 1 + S, B, H)
    mu, psi = first[:, 0], first[:, 1:]
    gradients, ends = [], []
    pulled, ones = layer.everywhere().pull(steps), torch.ones_like(xs[..., :1])
    for at, inputs, kept in zip((pulled.wx, pulled.rh, pulled.own), (xs, layer.R_inputs, ones), begin[:3], strict=True):
        g = torch.einsum("gnj,ni->gji", at[:, 0], inputs.flatten(0, 1)) + torch.einsum("qbj,bqgji->gji", mu, kept)  # (4)
        summed = torch.einsum("gptbj,tbi->bpgji", at[:, 1:].unflatten(2, signal.shape[:2]), inputs)
        ends.append(summed + torch.einsum("qpbj,bqgji->bpgji", psi, kept))  # (6)
        gradients.append(g.flatten(0, 1))
    initial = torch.einsum("qbj,bqsj->sj", mu, begin.initial)
    ends.append(torch.einsum("qpbj,bqsj->bpsj", psi, begin.initial))
    return *gradients, initial, _Traces(*ends)  # type: ignore[return-value]  three gradients


def _back(D: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
    """(3) and (5) together: [μ_t, Ψ_t] of every step, (S, 1 + S, T·B, H), and [D_1ᵀ μ_1, Ψ_0], (S, 1 + S, B, H)."""
    T, B, H = signal.shape
    S = len(D)
    steps = D.unflatten(2, (T, B)).unsqueeze(2)  # (S, S, 1, T, B, H)
    every = signal.new_empty(T, S, 1 + S, B, H)
    now = torch.cat((torch.zeros_like(D[:, :1, :B]), torch.eye(S, dtype=D.dtype, device=D.device)[..., None, None].expand(S, S, B, H)), 1)
    for t in reversed(range(T)):
        every[t] = now
        every[t, 0, 0] += signal[t]  # (3)
        now = (steps[:, :, :, t] * every[t].unsqueeze(1)).sum(0)  # (3), (5)
    return every.permute(1, 2, 0, 3, 4).flatten(2, 3), now
