"""One layer's recurrence as torch's autograd sees it: one node, whose backward is the hand-written recursion.

T time · B batch · I input · H hidden · G gates · S states.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .._shapes import State
from ..cells import AbstractCell
from . import _fast, _plain
from ._choice import get_kernels, get_threads
from ._types import FORWARD, Parameters, Run

Memory = Literal["fast", "lean"]


def recurrence(
    cell: AbstractCell,
    xs: Tensor,
    state: State,
    parameters: Parameters,
    *,
    clip_adjoint: float | None = None,
    memory: Memory = "fast",
) -> tuple[Tensor, State]:
    """Run one layer over ``xs`` (T, B, I) from ``state``, S tensors (B, H).

    Args:
        cell: the step.
        xs: inputs; where ``parameters.W`` is None, the input half (T, B, G, H) already made.
        state: where to start.
        parameters: weights, with the gate axis or as torch stores them, (G·H, ·).
        clip_adjoint: see ``nn.Recurrence``.
        memory: "fast" keeps the gates for backward; "lean" computes them again. The packed kernels alone tell the two apart.

    Returns:
        ``hs`` (T, B, H) and the last state, both differentiable once, by the recursion of ``_plain``.
    """
    hs, *last = _Recurrence.apply(cell, clip_adjoint, memory, len(state), xs, *state, *parameters)  # type: ignore[misc]
    return hs, tuple(last)


def serves(cell: AbstractCell, xs: Tensor) -> str:
    """Which kernels run this cell on this input, and why not the fast ones where it is the plain loop."""
    if get_kernels() == "plain":
        return "plain: asked for"
    why = _fast.supports(cell, xs)
    return "fast" if why is None else f"plain: {why}"


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: AbstractCell, clip: float | None, memory: Memory, S: int, xs: Tensor, *rest: Any) -> Any:
        state, stored = rest[:S], rest[S:]
        parameters = _with_gate_axis(cell, *stored)
        keep = memory if any(ctx.needs_input_grad) else "none"
        ctx.fast = get_kernels() == "fast" and _fast.supports(cell, xs) is None
        if ctx.fast:
            run = _fast.forward(cell, xs, state, parameters, FORWARD, keep=keep, threads=get_threads())
        else:
            run = _plain.forward(cell, xs, state, parameters, FORWARD)
        ctx.cell, ctx.clip, ctx.keep = cell, clip, keep
        ctx.set_materialize_grads(False)
        if keep != "none":
            ctx.save_for_backward(xs, *stored, run.hs, *run.kept)
        return run.hs, *run.last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        dhs, *dlast = gradients
        xs, *stored, hs = ctx.saved_tensors[:6]
        parameters, run = _with_gate_axis(ctx.cell, *stored), Run(hs, (), tuple(ctx.saved_tensors[6:]))
        needs_dxs = ctx.needs_input_grad[4]
        if ctx.fast:
            d = _fast.backward(
                ctx.cell, xs, parameters, run, dhs, tuple(dlast), FORWARD, clip=ctx.clip, needs_dxs=needs_dxs, keep=ctx.keep,
                threads=get_threads(),
            )  # fmt: skip
        else:
            ends = tuple(hs.new_zeros(hs.shape[1:]) if s is None else s for s in dlast)
            d = _plain.backward(ctx.cell, xs, parameters, run, dhs, ends, FORWARD, clip=ctx.clip, needs_dxs=needs_dxs)
        weights = (None if g is None else g.view(p.shape) for p, g in zip(stored, d.parameters, strict=True))
        return None, None, None, None, d.dxs, *d.dstate, *weights


def _with_gate_axis(cell: AbstractCell, W: Tensor | None, R: Tensor, b_ih: Tensor | None, b_hh: Tensor | None) -> Parameters:
    """Views (G, H, ·) of weights that may be stored as (G·H, ·). Here, out of autograd's sight, they cost it nothing."""
    G, H = cell.gates, R.shape[-1]
    return Parameters(
        None if W is None else W.view(G, H, -1),
        R.view(G, H, H),
        None if b_ih is None else b_ih.view(G, H),
        None if b_hh is None else b_hh.view(G, H),
    )
