"""torch's own recurrent kernels, for devices other than the CPU: cuDNN on CUDA, and those of MPS.

T time · B batch · I input · H hidden · G gates · S states.

They compute the bare recurrence only. Resets, lengths, clipped adjoints and gradients of gradients run on the plain loop.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._shapes import State
from ..cells import AbstractCell
from ._table import known
from ._types import Gradients, LayerParameters, Parameters, Run, Traversal, flat


class Graph(NamedTuple):
    """The graph of one call, from leaves to outputs."""

    leaves: list[Tensor]  # xs, *state, *weights that exist
    outputs: list[Tensor]  # hs, *last


def serves(cell: AbstractCell, parameters: LayerParameters, traversal: Traversal, clip: float | None) -> bool:
    """Whether torch has a kernel for this layer."""
    bare = traversal.lengths is None and traversal.reset is None and clip is None
    return (
        bare
        and isinstance(parameters, Parameters)
        and (parameters.b_ih is None) == (parameters.b_hh is None)
        and _call_of(cell) is not None
    )


def forward(cell: AbstractCell, xs: Tensor, state: State, parameters: LayerParameters, reverse: bool) -> Run:
    """As the plain loop's ``forward``, with a graph in place of residuals."""
    call = _call_of(cell)
    assert call is not None, "the caller has asked serves()"
    stored = [xs, *state, *(p.flatten(0, 1) for p in flat(parameters) if p is not None)]
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in stored]
        below, states, weights = leaves[0], leaves[1 : 1 + len(state)], leaves[1 + len(state) :]
        first = [s.unsqueeze(0) for s in states]
        given = below.flip(0) if reverse else below
        hs, *last = call(given, first if len(first) > 1 else first[0], weights, len(weights) > 2, 1, 0.0, True, False, False)
        outputs = [hs.flip(0) if reverse else hs, *(s.squeeze(0) for s in last)]
    hs, *last = (y.detach() for y in outputs)
    return Run(hs, tuple(last), (), "native", Graph(leaves, outputs))


def backward(graph: Graph, parameters: LayerParameters, dhs: Tensor | None, dlast: tuple[Tensor | None, ...]) -> Gradients:
    """The gradients, by torch's kernels."""
    arrived = [(y, d) for y, d in zip(graph.outputs, (dhs, *dlast), strict=True) if d is not None]
    found = torch.autograd.grad([y for y, _ in arrived], graph.leaves, [d for _, d in arrived], retain_graph=True, materialize_grads=True)
    S = len(dlast)
    rest = iter(found[1 + S :])
    weights = parameters.map(lambda p: next(rest).view(p.shape))
    return Gradients(found[0], tuple(found[1 : 1 + S]), weights, None)


def _call_of(cell: AbstractCell) -> Callable[..., Any] | None:
    row = known(cell)
    return None if row is None or row.native is None else getattr(torch, row.native)
