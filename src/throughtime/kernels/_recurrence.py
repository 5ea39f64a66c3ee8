"""One layer's recurrence as torch's autograd sees it: one node, whose backward is the hand-written recursion.

T time · B batch · I input · H hidden · G gates · S states.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .._shapes import State
from ..cells import AbstractCell
from . import _plain
from ._types import Parameters, Run, Walk


def recurrence(
    cell: AbstractCell,
    xs: Tensor,
    state: State,
    parameters: Parameters,
    *,
    clip_adjoint: float | None = None,
) -> tuple[Tensor, State]:
    """Run one layer over ``xs`` (T, B, I) from ``state``, S tensors (B, H).

    Returns:
        ``hs`` (T, B, H) and the last state, both differentiable once, by the recursion of ``_plain``.
    """
    hs, *last = _Recurrence.apply(cell, clip_adjoint, len(state), xs, *state, *parameters)  # type: ignore[misc]
    return hs, tuple(last)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: AbstractCell, clip: float | None, S: int, xs: Tensor, *rest: Any) -> Any:
        state, parameters = rest[:S], Parameters(*rest[S:])
        run = _plain.forward(cell, xs, state, parameters)
        ctx.cell, ctx.clip, ctx.S = cell, clip, S
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(xs, *parameters, run.hs, *run.kept)
        return run.hs, *run.last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        dhs, *dlast = gradients
        xs, W, R, b_ih, b_hh, hs, *kept = ctx.saved_tensors
        parameters = Parameters(W, R, b_ih, b_hh)
        d = _plain.backward(
            ctx.cell,
            xs,
            parameters,
            Run(hs, (), tuple(kept)),
            dhs,
            tuple(hs.new_zeros(hs.shape[1:]) if s is None else s for s in dlast),
            Walk(),
            clip=ctx.clip,
            needs_dxs=ctx.needs_input_grad[3],
        )
        return None, None, None, d.dxs, *d.dstate, *d.parameters
