"""Learned vectors (H,) of cells."""

from collections.abc import Iterator

import torch
from torch import nn

from ... import _check


def zeros(hidden_size: int, count: int) -> Iterator[nn.Parameter]:
    """Vectors that change nothing at the start.

    >>> [p.tolist() for p in zeros(2, 2)]
    [[0.0, 0.0], [0.0, 0.0]]
    """
    _check.positive("hidden_size", hidden_size)
    return (nn.Parameter(torch.zeros(hidden_size)) for _ in range(count))
