"""The questions, and their rows one by one."""

from collections.abc import Callable, Iterable, Iterator

import torch

from . import _layers, _memory, _own_cells, _startup, _steps, _training
from ._row import Row

QUESTIONS: dict[str, Callable[[int, float], Iterator[Row]]] = {
    "layers": _layers.rows,
    "training": _training.rows,
    "memory": _memory.rows,
    "steps": _steps.rows,
    "own-cells": _own_cells.rows,
    "start-up": _startup.rows,
}
"""Each takes a number of threads, which torch has already, and about how many seconds a row may take."""


def measure(questions: Iterable[str] = QUESTIONS, *, threads: int = 1, seconds: float = 2.0) -> Iterator[Row]:
    """Measure case after case, the contestants in turns.

    Args:
        questions: keys of ``QUESTIONS``.
        threads: of every contestant.
        seconds: about how long a row may take. Memory and start-up take what they take.

    >>> [row] = [row for row in measure(["steps"], seconds=0.01) if "GRU" in row.case]
    >>> row.unit, row.peers[:2]
    ('µs', ['torch.nn', "torch.nn's cell"])
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for question in questions:
            yield from QUESTIONS[question](threads, seconds)
    finally:
        torch.set_num_threads(before)
