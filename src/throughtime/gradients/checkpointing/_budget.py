"""Reversal within a memory budget that may hold recorded segments as well as states, by dynamic programming.

In addition to state 0 and one active segment there are m free places. A state takes 1 place; a recorded segment (its gates and its last
state) takes a. D(t, m) is the fewest forward runs, recordings included, that reverse t segments: D(0, m) = 0, and D(t, m) is the least of

    t + D(t−1, m)                                   run through to the last segment, record and reverse it         (1)
    min_{1≤y<t} y + D(t−y, m−1) + D(y, m)           keep state y, reverse what is right of it, then left        (2)
    min_{1≤y≤t} y + D(t−y, m−a) + D(y−1, m)         record segment y and hold it, reverse right of it, it, then left   (3)

(2) if m ≥ 1, (3) if m ≥ a. With (t−1) a ≤ m, D is t, which is plain backpropagation. With a > m it is revolve with m + 1 slots.

References: Gruslys, Munos, Danihelka, Lanctot & Graves, *Memory-efficient backpropagation through time*, 2016 (§3.3, the mixed strategy
MSM, restated: state 0 and the segment at work are not counted).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, final

import numpy as np

from ... import _check
from ._schedules import AbstractSchedule, Action, Advance, Free, Keep, Record, Restore, Reverse


@final
@dataclass(frozen=True)
class Budgeted(AbstractSchedule):
    """The schedule with the fewest forward runs within ``places``. Its table takes O(units² · places) time once, and is cached.

    Args:
        units: n, the number of segments.
        places: m, in addition to state 0 and the active segment.
        inside: a, the places of a recorded segment; at least 1.

    Raises:
        InputError: segments or inside below 1, places below 0.

    >>> Budgeted(10, 2, 100).advances, Budgeted(10, 9 * 3, 3).advances  # as revolve with 3 slots; as plain backpropagation
    (15, 0)
    """

    units: int
    places: int
    inside: int

    def __post_init__(self) -> None:
        _check.positive("units", self.units)
        _check.at_least("places", self.places, 0)
        _check.positive("inside", self.inside)

    @property
    def advances(self) -> int:
        """D(n, m) − n."""
        table, m = _table(self.units, self._places, self.inside), self._places
        return int(table.runs[self.units, m]) - self.units

    @property
    def _places(self) -> int:
        return min(self.places, (self.units - 1) * self.inside)  # more change nothing

    def actions(self) -> Iterator[Action]:
        yield Keep(0)
        table = _table(self.units, self._places, self.inside)
        yield from _reverse(table, 0, self.units, self._places, self.inside, here=0)
        yield Free(0)


def _reverse(table: "_Table", i: int, t: int, m: int, a: int, *, here: int) -> Iterator[Action]:
    """Reverse segments i..i+t−1 from state i, which stays; ``here`` is the current state."""
    while t > 0:
        y, recorded = int(table.way[t, m]), bool(table.recorded[t, m])
        if here != i:
            yield Restore(i)
        here = i + y
        if recorded:  # (3), and (1), which is (3) with nothing right of y
            if y > 1:
                yield Advance(i, here - 1)
            yield Record(here - 1)
            yield from _reverse(table, here, t - y, m - a, a, here=here)
            yield Reverse(here - 1)
            t = y - 1
        else:  # (2)
            yield Advance(i, here)
            yield Keep(here)
            yield from _reverse(table, here, t - y, m - 1, a, here=here)
            yield Free(here)
            t = y
        here = -1  # somewhere to the right


class _Table(NamedTuple):
    """For every t and m."""

    runs: np.ndarray  # D(t, m)
    way: np.ndarray  # y
    recorded: np.ndarray  # whether segment y is recorded, (1) and (3), or state y kept, (2)


@lru_cache(maxsize=64)
def _table(n: int, m: int, a: int) -> _Table:
    D = np.zeros((n + 1, m + 1), np.int64)
    way, recorded = np.zeros_like(D), np.ones_like(D, dtype=bool)
    for t in range(1, n + 1):
        D[t], way[t] = t + D[t - 1], t  # (1)
        y = np.arange(1, t + 1).reshape(-1, 1)
        if m >= 1 and t > 1:
            _improve(D[t], way[t], recorded[t], y[:-1] + D[t - 1 : 0 : -1, :-1] + D[1:t, 1:], 1, record=False)  # (2)
        if m >= a:
            _improve(D[t], way[t], recorded[t], y + D[t - 1 :: -1, : m + 1 - a] + D[:t, a:], a, record=True)  # (3)
    return _Table(D, way, recorded)


def _improve(best: np.ndarray, way: np.ndarray, recorded: np.ndarray, found: np.ndarray, first: int, *, record: bool) -> None:
    """Take what is less: ``found`` has a row for every y = 1, 2, … and a column for every m from ``first`` on."""
    least, y = found.min(0), found.argmin(0) + 1
    better = np.flatnonzero(least < best[first:])
    best[first:][better], way[first:][better], recorded[first:][better] = least[better], y[better], record
