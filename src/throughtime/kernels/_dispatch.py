"""One layer run forward, and taken back, by whichever kernels serve: the packed ones, torch's own on another device, or the plain loop.

T time · B batch · I input · H hidden · G gates · S states.

No graph is built here; ``_recurrence`` makes a node of autograd of these functions, and ``nn.Trace`` calls them as they are.
"""

from typing import Literal

import torch
from torch import Tensor

from .._shapes import State
from ..cells import AbstractCell
from . import _fast, _native, _plain
from ._choice import get_kernels, get_threads
from ._types import FORWARD, Gradients, LayerParameters, Run, Traversal


def kernels_for(
    cell: AbstractCell, xs: Tensor, parameters: LayerParameters, traversal: Traversal, clip: float | None
) -> Literal["packed", "native", "plain"]:
    """The packed kernels where they serve, torch's own on another device where they do, and the plain loop everywhere else."""
    if get_kernels() == "plain":
        return "plain"
    if _fast.supports(cell, xs) is None:
        return "packed"
    return "native" if xs.device.type != "cpu" and _native.serves(cell, parameters, traversal, clip) else "plain"


def forward(
    cell: AbstractCell,
    xs: Tensor,
    state: State,
    parameters: LayerParameters,
    traversal: Traversal = FORWARD,
    *,
    clip: float | None = None,
    keep: _fast.Keep = "fast",
) -> Run:
    """Run one layer over ``xs`` (T, B, I) from ``state``, S tensors (B, H); parameters with the gate axis.

    Args:
        clip: what ``backward`` will be asked for, since torch's own kernels cannot clip.
        keep: what is left for ``backward``: the gates ("fast"), enough to compute them again ("lean"), or nothing ("none").
    """
    kernels = kernels_for(cell, xs, parameters, traversal, clip)
    if kernels == "packed":
        return _fast.forward(cell, xs, state, parameters, traversal, keep=keep, threads=get_threads())._replace(kernels="packed")
    if kernels == "native":
        run, graph = _native.forward(cell, xs, state, parameters, traversal.reverse)
        return run._replace(kernels="native", graph=graph)
    return _plain.forward(cell, xs, state, parameters, traversal)


def backward(
    cell: AbstractCell,
    xs: Tensor,
    parameters: LayerParameters,
    run: Run,
    dhs: Tensor | None,
    dlast: tuple[Tensor | None, ...],
    traversal: Traversal = FORWARD,
    *,
    clip: float | None = None,
    needs_dxs: bool = True,
    keep: _fast.Keep = "fast",
) -> Gradients:
    """The whole recursion back, for the adjoints of every output and of the last state; as many times as one likes."""
    if run.kernels == "native":
        return _native.backward(run.graph, parameters, dhs, dlast)
    if run.kernels == "packed":
        return _fast.backward(
            cell, xs, parameters, run, dhs, dlast, traversal, clip=clip, needs_dxs=needs_dxs, keep=keep, threads=get_threads()
        )
    ends = tuple(run.hs.new_zeros(run.hs.shape[1:]) if s is None else s for s in dlast)
    return _plain.backward(cell, xs, parameters, run, dhs, ends, traversal, clip=clip, needs_dxs=needs_dxs)


def states(
    cell: AbstractCell, xs: Tensor, state: State, parameters: LayerParameters, traversal: Traversal, run: Run, keep: _fast.Keep
) -> State:
    """The state around every step of a run forward in time: S tensors (T + 1, B, H), row t what t steps left.

    Taken from what the run kept where that tells it; else the layer is run once more.
    """
    if run.kernels == "plain":
        return run.residuals[2:]
    if cell.states == 1:
        return (torch.cat((state[0].unsqueeze(0), run.hs)),)
    if run.kernels == "packed":
        if keep != "fast":
            run = _fast.forward(cell, xs, state, parameters, traversal, keep="fast", threads=get_threads())
        return _fast.states(cell, state, run)
    return _plain.forward(cell, xs, state, parameters, traversal).residuals[2:]
