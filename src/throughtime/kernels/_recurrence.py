"""One layer's recurrence as torch sees it, by whichever way what surrounds the call can bear.

T time · B batch · I input · H hidden · G gates · S states.

Called plainly, it is one node of autograd, whose backward is the hand-written recursion. Under torch.compile and torch.func it is an
operator of torch's library (``_operators``); in forward mode, or for a cell without a kernel under a transform, it is a graph of
torch's own operations (``_unrolled``). A gradient of the gradient is a differentiable recomputation of the same graph.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._shapes import State
from .._torch_private import forward_mode_is_active, functorch_is_active
from ..cells import AbstractCell
from . import _fast
from ._choice import get_kernels
from ._dispatch import backward, forward
from ._operators import operator, refuse_clipped_adjoint
from ._types import FORWARD, Gradients, LayerParameters, Memory, Parameters, Run, Traversal, flat, from_flat
from ._unrolled import named, pulled_back, unrolled


def recurrence(
    cell: AbstractCell,
    xs: Tensor,
    state: State,
    parameters: LayerParameters,
    *,
    traversal: Traversal = FORWARD,
    clip_adjoint: float | None = None,
    memory: Memory = "fast",
) -> tuple[Tensor, State]:
    """Run one layer over ``xs`` (T, B, I) from ``state``, S tensors (B, H).

    Args:
        cell: the step.
        xs: inputs; with ``RecurrentParameters``, the input half (T, B, G, H) already made.
        state: where to start.
        parameters: weights, with the gate axis or as torch stores them, (G·H, ·).
        traversal: lengths, resets, direction.
        clip_adjoint: see ``nn.Recurrence``.
        memory: "fast" keeps the gates for backward; "lean" computes them again. The packed kernels alone tell the two apart.

    Returns:
        ``hs`` (T, B, H) and the last state, both differentiable as often as one likes.
    """
    if torch.compiler.is_compiling() or functorch_is_active() or forward_mode_is_active():
        return _transformed(cell, xs, state, parameters, traversal, clip_adjoint, memory)
    restart, keep = traversal.restart or (), memory if torch.is_grad_enabled() else "none"
    hs, *last = _Recurrence.apply(cell, traversal, clip_adjoint, keep, len(state), xs, *state, *flat(parameters), *restart)  # type: ignore[misc]
    return hs, tuple(last)


def serves(cell: AbstractCell, xs: Tensor) -> str:
    """Which kernels run this cell on this input, and why not the fast ones where it is the plain loop."""
    if get_kernels() == "plain":
        return "plain: asked for"
    why = _fast.supports(cell, xs)
    return "fast" if why is None else f"plain: {why}"


def _transformed(
    cell: AbstractCell, xs: Tensor, state: State, stored: LayerParameters, traversal: Traversal, clip: float | None, memory: Memory
) -> tuple[Tensor, State]:
    """Where a transform of torch looks on."""
    parameters = _with_gate_axis(cell, *flat(stored))
    forward_mode = forward_mode_is_active()
    if forward_mode or get_kernels() == "plain" or _fast.supports(cell, xs) is not None:
        refuse_clipped_adjoint(clip)
        return unrolled(cell, xs, state, parameters, traversal)
    keep = memory if torch.is_grad_enabled() or functorch_is_active() else "none"
    return operator(cell, xs, state, parameters, traversal, clip=clip, keep=keep)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: AbstractCell, traversal: Traversal, clip: float | None, keep: _fast.Keep, S: int, xs: Tensor, *rest: Any
    ) -> Any:
        state, stored = rest[:S], rest[S : S + 4]
        parameters = _with_gate_axis(cell, *stored)
        keep = keep if any(ctx.needs_input_grad) else "none"
        run = forward(cell, xs, state, parameters, traversal, clip=clip, keep=keep)
        ctx.kernels, ctx.graph = run.kernels, run.graph
        ctx.cell, ctx.traversal, ctx.clip, ctx.keep, ctx.S = cell, traversal, clip, keep, S
        ctx.set_materialize_grads(False)
        if keep != "none":
            ctx.save_for_backward(xs, *rest, run.hs, *run.residuals)
        return run.hs, *run.last

    @staticmethod
    def backward(ctx: Any, dhs: Tensor | None, *dlast: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        S, restarts = ctx.S, len(ctx.traversal.restart or ())
        xs, *saved = ctx.saved_tensors
        state, stored, restart = tuple(saved[:S]), saved[S : S + 4], tuple(saved[S + 4 : S + 4 + restarts])
        hs, *residuals = saved[S + 4 + restarts :]
        run = Run(hs, (), tuple(residuals), ctx.kernels, ctx.graph)
        traversal = replace(ctx.traversal, restart=restart) if restarts else ctx.traversal
        parameters, needs_dxs = _with_gate_axis(ctx.cell, *stored), ctx.needs_input_grad[5]
        if torch.is_grad_enabled():  # create_graph: this gradient is to be differentiated itself
            d = _differentiable(ctx.cell, xs, state, parameters, traversal, ctx.clip, dhs, dlast)
        else:
            d = backward(ctx.cell, xs, parameters, run, dhs, dlast, traversal, clip=ctx.clip, needs_dxs=needs_dxs, keep=ctx.keep)
        weights = (None if g is None else g.view(p.shape) for p, g in zip(stored, flat(d.parameters), strict=True))
        return None, None, None, None, None, d.dxs, *d.dstate, *weights, *(d.drestart or ())


def _differentiable(
    cell: AbstractCell,
    xs: Tensor,
    state: State,
    parameters: LayerParameters,
    traversal: Traversal,
    clip: float | None,
    dhs: Tensor | None,
    dlast: tuple[Tensor | None, ...],
) -> Gradients:
    """The same gradients as a function of everything they depend on."""
    refuse_clipped_adjoint(clip)
    found = pulled_back(cell, named(xs, state, parameters, traversal.restart), traversal, dhs, dlast).get
    weights = from_flat(*map(found, Parameters._fields))  # type: ignore[arg-type]
    dstate, drestart = (
        tuple(found(f"{name}.{k}") for k in range(len(s or ()))) for name, s in (("state", state), ("restart", traversal.restart))
    )
    return Gradients(found("xs"), dstate, weights, drestart or None)  # type: ignore[arg-type]


def _with_gate_axis(cell: AbstractCell, W: Tensor | None, R: Tensor, b_ih: Tensor | None, b_hh: Tensor | None) -> LayerParameters:
    """Views (G, H, ·) of weights that may be stored as (G·H, ·). Here, out of autograd's sight, they cost it nothing."""
    G, H = cell.gates, R.shape[-1]
    return from_flat(
        None if W is None else W.view(G, H, -1),
        R.view(G, H, H),
        None if b_ih is None else b_ih.view(G, H),
        None if b_hh is None else b_hh.view(G, H),
    )
