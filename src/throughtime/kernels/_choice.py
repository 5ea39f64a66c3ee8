"""Which kernels run, and on how many threads: two settings of the process."""

from typing import Literal

import torch

from .. import _check

Kernels = Literal["fast", "plain"]

_kernels: Kernels = "fast"
_threads: int | None = None


def set_kernels(kernels: Kernels) -> None:
    """Use the packed kernels wherever they can serve ("fast", as at the start), or the plain loop everywhere ("plain")."""
    global _kernels
    _check.one_of("kernels", kernels, ("fast", "plain"))
    _kernels = kernels


def get_kernels() -> Kernels:
    """What was set."""
    return _kernels


def set_threads(threads: int | None) -> None:
    """How many threads the packed kernels use at most; None, as at the start: as many as ``torch.get_num_threads()``."""
    global _threads
    _threads = None if threads is None else _check.positive("threads", threads, most=1024)


def get_threads() -> int:
    """How many threads the packed kernels use at most."""
    return torch.get_num_threads() if _threads is None else _threads
