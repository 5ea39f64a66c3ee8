"""Schedules: the order of forward runs and reversals by which a long chain is reversed in little memory.

A chain has n segments of some time steps each, counted from 0; state i is the state before segment i. A schedule is a list of six kinds
of actions that reverses segments n−1, …, 0, each once and from the right state:

    Keep(i)        hold state i, the current one                       costs a slot
    Free(i)        hold it no more
    Restore(i)     make state i current again: a kept one, or the end of the recorded segment i−1
    Advance(i, j)  run segments i..j−1 forward and keep nothing; state j is current        costs j − i extra forward runs
    Record(i)      run segment i forward with all that its backward needs; state i + 1 is current
    Reverse(i)     go back through the recorded segment i, and drop it

**Binomial checkpointing** (revolve). With c slots, one of them for state 0, and at most r forward runs of any segment before its recording,
the longest chain has

    β(c, r) = C(c + r, c)                               (1)

segments, and the fewest advances for n of them are

    r n − C(c + r, c + 1),   r the least with n ≤ β(c, r)       (2)

To reach it, keep the state in the middle, reverse the segments after it with the other c − 1 slots, and then the segments before it with
all c slots, where each part obeys (1) for its own number of runs:

    middle = min(β(c, r − 1), n − β(c − 1, r − 1))      (3)

References: Griewank & Walther, *Algorithm 799: revolve*, 2000 (Proposition 1 and its Theorem).
"""

import abc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import comb
from typing import NamedTuple, final

from ... import _check


@final
@dataclass(frozen=True, slots=True)
class Keep:
    """Hold state ``at``, the current one."""

    at: int


@final
@dataclass(frozen=True, slots=True)
class Free:
    """Hold state ``at`` no more."""

    at: int


@final
@dataclass(frozen=True, slots=True)
class Restore:
    """Make state ``at`` the current one again."""

    at: int


@final
@dataclass(frozen=True, slots=True)
class Advance:
    """Run segments at..to−1 forward, keeping nothing."""

    at: int
    to: int


@final
@dataclass(frozen=True, slots=True)
class Record:
    """Run segment ``at`` forward, keeping what its backward needs."""

    at: int


@final
@dataclass(frozen=True, slots=True)
class Reverse:
    """Go back through the recorded segment ``at``, and drop it."""

    at: int


Action = Keep | Free | Restore | Advance | Record | Reverse


class AbstractSchedule(abc.ABC):
    """A way to reverse a chain of known length. A schedule is a frozen dataclass.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class KeepEverything(AbstractSchedule):
    ...     units: int
    ...     advances = 0
    ...     def actions(self):
    ...         yield from (Record(i) for i in range(self.units))
    ...         yield from (Reverse(i) for i in reversed(range(self.units)))
    >>> totals(KeepEverything(5).actions()).recorded
    5
    """

    @property
    @abc.abstractmethod
    def advances(self) -> int:
        """The number of forward runs of segments, without the one recording of each."""

    @abc.abstractmethod
    def actions(self) -> Iterator[Action]:
        """The actions, from state 0 as the current state to the reversal of segment 0. No state is held at the end."""


class Totals(NamedTuple):
    """The cost of a list of actions."""

    advances: int  # segments run forward beyond the one recording of each
    kept: int  # the most states held at once
    recorded: int  # the most recorded segments held at once
    peak: int  # the most that kept states and recorded segments took together


def totals(actions: Iterable[Action], state: int = 1, recorded: int = 1) -> Totals:
    """The cost of a list of actions, if a state takes ``state`` and a recorded segment ``recorded`` of memory."""
    advances = kept = held = most_kept = most_held = peak = 0
    for action in actions:
        match action:
            case Keep():
                kept += 1
            case Free():
                kept -= 1
            case Advance(at, to):
                advances += to - at
            case Record():
                held += 1
            case Reverse():
                held -= 1
            case Restore():
                continue
        most_kept, most_held, peak = max(most_kept, kept), max(most_held, held), max(peak, kept * state + held * recorded)
    return Totals(advances, most_kept, most_held, peak)


@final
@dataclass(frozen=True)
class Binomial(AbstractSchedule):
    """The schedule with the fewest advances for ``slots`` states, including the first, and one recorded segment.

    Args:
        units: n, the number of segments.
        slots: c, the number of states held at once.

    Raises:
        InputError: either below 1.

    >>> Binomial(10, 3).advances, totals(Binomial(10, 3).actions()).advances
    (15, 15)
    """

    units: int
    slots: int

    def __post_init__(self) -> None:
        _check.positive("units", self.units)
        _check.positive("slots", self.slots)

    @property
    def advances(self) -> int:
        """The formula (2)."""
        c = min(self.slots, self.units)  # more change nothing
        r = _runs(self.units, c)
        return r * self.units - comb(c + r, c + 1)

    def actions(self) -> Iterator[Action]:
        yield Keep(0)
        yield from binomial(0, self.units, self.slots, here=0)


def binomial(start: int, stop: int, slots: int, *, here: int) -> Iterator[Action]:
    """Reverse segments start..stop−1 and free state ``start``, which is held in one of the ``slots``; ``here`` is the current state."""
    waiting = [(start, stop, slots)]
    while waiting:
        i, j, c = waiting.pop()
        if here != i:
            yield Restore(i)
        if j - i == 1:
            yield Free(i)
            yield Record(i)
            yield Reverse(i)
            here = j
        elif c == 1:
            yield Advance(i, j - 1)
            yield Record(j - 1)
            yield Reverse(j - 1)
            here = j
            waiting.append((i, j - 1, 1))
        else:
            middle = i + _middle(j - i, c)
            yield Advance(i, middle)
            yield Keep(middle)
            here = middle
            waiting += [(i, middle, c), (middle, j, c - 1)]


def _runs(n: int, c: int) -> int:
    """r: the least number of forward runs with which c slots reach n segments, (1)."""
    r = 0
    while comb(c + r, c) < n:
        r += 1
    return r


def _middle(n: int, c: int) -> int:
    """How far right of the start the next state is kept, for n ≥ 2 segments and c ≥ 2 slots."""
    c = min(c, n)
    r = _runs(n, c)
    return min(comb(c + r - 1, c), n - comb(c + r - 2, c - 1))  # (3)
