"""How many threads to use where nobody has said: on a busy machine more of them only wait for each other."""

import os

import torch

from .. import _check


def use_threads(asked: int | None) -> None:
    """So many threads of torch; None: as many as are idle.

    Raises:
        InputError: not a number of threads.
    """
    torch.set_num_threads(idle_threads() if asked is None else _check.positive("--threads", asked, most=1024))


def idle_threads() -> int:
    """As many as there are processors without work, at least one."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        busy = os.getloadavg()[0]
    except (AttributeError, OSError):
        busy = 0.0  # a system that does not say
    return max(1, round(available - busy))
