"""Two settings of the process: which kernels run, and on how many threads."""

from typing import Literal

import torch

from .. import _check

Kernels = Literal["fast", "plain"]

_kernels: Kernels = "fast"
_threads: int | None = None


def set_kernels(kernels: Kernels) -> None:
    """Choose the kernels for the whole process.

    Args:
        kernels: "fast", the default, uses the packed kernels wherever they support the layer; "plain" uses the plain loop everywhere.

    Raises:
        InputError: another word.

    >>> set_kernels("plain")
    >>> get_kernels()
    'plain'
    >>> set_kernels("fast")
    """
    global _kernels
    _check.one_of("kernels", kernels, ("fast", "plain"))
    _kernels = kernels


def get_kernels() -> Kernels:
    """The present setting: "fast" or "plain"."""
    return _kernels


def set_threads(threads: int | None) -> None:
    """Set the most threads that the packed kernels use.

    Args:
        threads: 1 to 1,024; None, the default, follows ``torch.get_num_threads()``.

    Raises:
        InputError: a number of threads outside that range.
    """
    global _threads
    _threads = None if threads is None else _check.positive("threads", threads, most=1024)


def get_threads() -> int:
    """The most threads that the packed kernels use."""
    return torch.get_num_threads() if _threads is None else _threads
