"""How much memory a layer's recurrence takes. The plans of checkpointing use it.

T time · B batch · H hidden · G gates · S states.
"""

from typing import NamedTuple

from torch import Tensor

from ..cells import AbstractCell
from . import _fast
from ._choice import get_kernels
from ._types import Memory


class MemoryUse(NamedTuple):
    """How many numbers one layer holds in addition to its input, its output, and their gradients.

    >>> import torch
    >>> from throughtime.cells import GRU
    >>> from throughtime.kernels import memory_use
    >>> kept = {memory: memory_use(GRU(), torch.zeros(()), (1000, 16, 128), memory).residuals for memory in ("fast", "lean")}
    >>> kept["lean"] <= kept["fast"]
    True
    """

    residuals: int  # from forward to backward
    backward: int  # while backward runs


def memory_use(cell: AbstractCell, like: Tensor, shape: tuple[int, int, int], memory: Memory) -> MemoryUse:
    """The memory of a layer of ``shape`` (T, B, H) on inputs of the dtype and device of ``like``."""
    T, B, H = shape
    if get_kernels() == "fast" and _fast.supports(cell, like) is None:
        return MemoryUse(int(_fast.residual_numbers(cell, like.dtype, shape, memory)), 0)
    halves = 2 * T * B * cell.gates * H
    return MemoryUse(halves + (T + 1) * B * cell.states * H, halves + T * B * H)  # wxs, rhs, states; dwxs, drhs, h_before
