"""Layers that take one step after another, with weights that are packed once.

B streams · I input · H hidden · G gates · S states · L layers.
"""

from typing import Any, final

import torch
from torch import Tensor

from .._shapes import State
from ..cells import AbstractCell
from . import _fast
from ._choice import get_kernels, get_threads
from ._table import known


@final
class PackedSteps:
    """L layers of one cell, their state and a packed copy of their weights.

    Args:
        cell: a cell that the packed kernels have.
        weights: W (G·H, I), R (G·H, H), b_ih and b_hh (G·H) or None, of one layer after another. They are copied.
        streams: B.

    >>> from throughtime.cells import GRU
    >>> steps = PackedSteps(GRU(), (torch.randn(15, 2), torch.randn(15, 5), None, None), 3)
    >>> h = steps.step(torch.randn(3, 2))
    >>> torch.equal(h, steps.state()[0][0])
    True
    """

    def __init__(self, cell: AbstractCell, weights: tuple[Tensor | None, ...], streams: int) -> None:
        weights = tuple(None if p is None else p.detach().clone(memory_format=torch.contiguous_format) for p in weights)
        self._build(cell, weights, streams)

    def _build(self, cell: AbstractCell, weights: tuple[Any, ...], streams: int) -> None:
        self._made_of = cell, weights, streams
        self._extension = _fast.steps(cell, weights, streams, get_threads())
        self._like, self._h = weights[1], (streams, weights[1].shape[1])

    def step(self, x: Tensor) -> Tensor:
        """The last layer's h (B, H) after x (B, I)."""
        h = self._like.new_empty(self._h)
        self._extension.step(x if x.is_contiguous() else x.contiguous(), h)
        return h

    def state(self) -> State:
        """A copy of the state, S tensors (L, B, H)."""
        cell, weights, _ = self._made_of
        state = tuple(self._like.new_empty(len(weights) // 4, *self._h) for _ in range(cell.states))
        self._extension.read_state(state)
        return state

    def set_state(self, state: State) -> None:
        """Go on from ``state``, S tensors (L, B, H)."""
        self._extension.write_state(tuple(s.detach().contiguous() for s in state))

    def __getstate__(self) -> dict[str, Any]:
        return {"made_of": self._made_of, "state": self.state()}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self._build(*kept["made_of"])
        self.set_state(kept["state"])


def can_step(cell: AbstractCell, weight: Tensor) -> bool:
    """Whether ``PackedSteps`` serves this cell with weights like this one."""
    there = get_kernels() == "fast" and _fast.is_there() and known(cell) is not None
    return there and weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)
