"""One layer forward and backward, by the fastest kernels that support it: packed, torch's own on another device, or the plain loop.

T time · B batch · I input · H hidden · G gates · S states.

These functions build no graph. ``_recurrence`` wraps them in a node of autograd; ``nn.Trace`` calls them directly.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .._shapes import State
from ..cells import AbstractCell
from . import _fast, _native, _plain
from ._choice import get_kernels, get_threads
from ._table import known
from ._types import FORWARD, Gradients, LayerParameters, Run, Start, Traversal


def kernels_for(
    cell: AbstractCell, xs: Tensor, parameters: LayerParameters, traversal: Traversal, clip: float | None
) -> Literal["packed", "native", "plain"]:
    """The packed kernels if they support the layer, else torch's own on another device, else the plain loop."""
    if get_kernels() == "plain":
        return "plain"
    if _fast.supports(cell, xs) is None:
        return "packed"
    _fast.tell_once()
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
        cell: the step.
        xs: inputs; with ``RecurrentParameters``, the input half wx (T, B, G, H).
        state: the state before the first step.
        parameters: the layer's weights.
        traversal: lengths, resets, direction.
        clip: the ``clip`` that ``backward`` will get. torch's own kernels cannot clip, so it decides which kernels run.
        keep: the residuals for ``backward``: the gates ("fast"), enough to recompute them ("lean"), or nothing ("none").

    >>> from throughtime.cells import GRU
    >>> from throughtime.kernels import Parameters
    >>> weights = Parameters(torch.randn(3, 5, 2), torch.randn(3, 5, 5), None, None)
    >>> xs = torch.randn(7, 4, 2)
    >>> run = forward(GRU(), xs, (torch.zeros(4, 5),), weights)
    >>> run.hs.shape
    torch.Size([7, 4, 5])
    >>> d = backward(GRU(), xs, weights, run, torch.ones(7, 4, 5), (None,))
    >>> d.dxs.shape, d.parameters.R.shape
    (torch.Size([7, 4, 2]), torch.Size([3, 5, 5]))
    """
    kernels = kernels_for(cell, xs, parameters, traversal, clip)
    if kernels == "packed":
        return _fast.forward(cell, xs, state, parameters, traversal, keep=keep, threads=get_threads())
    if kernels == "native":
        return _native.forward(cell, xs, state, parameters, traversal.reverse)
    with torch.no_grad():  # a cell's own vectors may want gradients
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
    """The recursion back through a run. It may be called several times with different adjoints.

    Args:
        cell: as in ``forward``; so are ``xs``, ``parameters``, ``traversal`` and ``keep``.
        run: what ``forward`` returned.
        dhs: the adjoints of every output, (T, B, H); None for zeros.
        dlast: the adjoint of the last state, S tensors (B, H); None for zeros.
        clip: the most norm of each sample's adjoint at each step; None: no clipping.
        needs_dxs: False skips the gradient of ``xs``.
    """
    if run.kernels == "native":
        return _native.backward(run.graph, parameters, dhs, dlast)
    if run.kernels == "packed":
        return _fast.backward(
            cell, xs, parameters, run, dhs, dlast, traversal, clip=clip, needs_dxs=needs_dxs, keep=keep, threads=get_threads()
        )
    ends = tuple(run.hs.new_zeros(run.hs.shape[1:]) if s is None else s for s in dlast)
    with torch.no_grad():
        return _plain.backward(cell, xs, parameters, run, dhs, ends, traversal, clip=clip, needs_dxs=needs_dxs)


def forward_stack(
    cell: AbstractCell, xs: Tensor, layers: Sequence[Start], *, clip: float | None = None, keep: _fast.Keep = "fast"
) -> list[Run]:
    """Run several layers of one cell, each over the output of the one before; ``xs`` is the first one's. The results are those of
    ``forward``, layer by layer. With the packed kernels layers take turns in time on several threads, where the batch is small.

    >>> from throughtime.cells import GRU
    >>> from throughtime.kernels import Parameters, Start
    >>> weights, xs = [Parameters(torch.randn(3, 5, n), torch.randn(3, 5, 5), None, None) for n in (2, 5)], torch.randn(7, 4, 2)
    >>> layers = [Start((torch.zeros(4, 5),), w, FORWARD) for w in weights]
    >>> runs = forward_stack(GRU(), xs, layers)
    >>> d = backward_stack(GRU(), xs, layers, runs, torch.ones(7, 4, 5), [(None,), (None,)])
    >>> runs[1].hs.shape, d[0].dxs.shape
    (torch.Size([7, 4, 5]), torch.Size([7, 4, 2]))
    """
    packed = all(kernels_for(cell, xs, layer.parameters, layer.traversal, clip) == "packed" for layer in layers)
    runs, calls = [], []
    for layer in layers:
        below = runs[-1].hs if runs else xs
        if packed:
            call, run = _fast.forward_call(cell, below, layer, keep, get_threads())
            calls.append(call)
        else:
            run = forward(cell, below, *layer, clip=clip, keep=keep)
        runs.append(run)
    if packed:
        _fast.run_forward(calls)
    return runs


def backward_stack(
    cell: AbstractCell,
    xs: Tensor,
    layers: Sequence[Start],
    runs: Sequence[Run],
    dhs: Tensor | None,
    dlast: Sequence[tuple[Tensor | None, ...]],
    *,
    clip: float | None = None,
    needs_dxs: bool = True,
    keep: _fast.Keep = "fast",
) -> list[Gradients]:
    """The recursions back through ``forward_stack``'s runs, as ``backward`` does them; one result for each layer, the first one's first.

    Args:
        cell: as in ``forward_stack``; so are ``xs``, ``layers``, ``clip`` and ``keep``.
        runs: what ``forward_stack`` returned.
        dhs: the adjoints of the last layer's outputs, (T, B, H); None for zeros.
        dlast: the adjoint of each layer's last state, S tensors (B, H); None for zeros.
        needs_dxs: False skips the gradient of ``xs``.
    """
    packed = all(run.kernels == "packed" for run in runs)
    found: list[Gradients] = []
    calls = []
    for l in reversed(range(len(layers))):
        below, (_, parameters, traversal), needed = runs[l - 1].hs if l else xs, layers[l], l > 0 or needs_dxs
        given = (cell, below, parameters, runs[l], dhs, dlast[l], traversal)
        if packed:
            call, d = _fast.backward_call(*given, clip=clip, needs_dxs=needed, keep=keep, threads=get_threads())
            calls.append(call)
        else:
            d = backward(*given, clip=clip, needs_dxs=needed, keep=keep)
        found.insert(0, d)
        dhs = d.dxs
    if packed:
        _fast.run_backward(calls)
    return found


def states(
    cell: AbstractCell, xs: Tensor, state: State, parameters: LayerParameters, traversal: Traversal, run: Run, keep: _fast.Keep
) -> State:
    """All states of a run forward in time: S tensors (T + 1, B, H), row t the state after t steps.

    They are read from the run's residuals where these contain them. Otherwise the layer runs once more.
    """
    if run.kernels == "plain":
        return run.residuals[2:]
    if cell.states == 1:
        return (torch.cat((state[0].unsqueeze(0), run.hs)),)
    if run.kernels == "packed" and known(cell) is not None:
        if keep != "fast":
            run = _fast.forward(cell, xs, state, parameters, traversal, keep="fast", threads=get_threads())
        return _fast.states(cell, state, run)
    with torch.no_grad():
        return _plain.forward(cell, xs, state, parameters, traversal).residuals[2:]
