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
        parameters: weights.
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
        state, parameters = rest[:S], Parameters(*rest[S:])
        keep = memory if any(ctx.needs_input_grad) else "none"
        ctx.fast = get_kernels() == "fast" and _fast.supports(cell, xs) is None
        if ctx.fast:
            run = _fast.forward(cell, xs, state, parameters, FORWARD, keep=keep, threads=get_threads())
        else:
            run = _plain.forward(cell, xs, state, parameters, FORWARD)
        ctx.cell, ctx.clip, ctx.keep = cell, clip, keep
        ctx.set_materialize_grads(False)
        if keep != "none":
            ctx.save_for_backward(xs, *parameters, run.hs, *run.kept)
        return run.hs, *run.last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        dhs, *dlast = gradients
        xs, W, R, b_ih, b_hh, hs, *kept = ctx.saved_tensors
        parameters, run = Parameters(W, R, b_ih, b_hh), Run(hs, (), tuple(kept))
        needs_dxs = ctx.needs_input_grad[4]
        if ctx.fast:
            d = _fast.backward(
                ctx.cell, xs, parameters, run, dhs, tuple(dlast), FORWARD, clip=ctx.clip, needs_dxs=needs_dxs, keep=ctx.keep,
                threads=get_threads(),
            )  # fmt: skip
        else:
            ends = tuple(hs.new_zeros(hs.shape[1:]) if s is None else s for s in dlast)
            d = _plain.backward(ctx.cell, xs, parameters, run, dhs, ends, FORWARD, clip=ctx.clip, needs_dxs=needs_dxs)
        return None, None, None, None, d.dxs, *d.dstate, *d.parameters
