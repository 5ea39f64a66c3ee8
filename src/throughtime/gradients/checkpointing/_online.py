"""Checkpoints of a chain whose length is not known in advance.

There are c slots; state 0 keeps one of them throughout. While the segments arrive:

**Stumm–Walther I.** States 0..c−1 fill the slots. Then follow phases j = 1..c of c + 1 − j states each: the first is not kept, and the next
c − j go into slots c − j, 1, 2, …, c − j − 1. This covers all states i < (c+1)(c+2)/2 − 1, and is as good as a schedule that knows the
length.

**Wang–Moin** after that. Every kept state has a level; that of state 0 is ∞. A state is dispensable if a later one has a higher level. A
new state replaces the latest dispensable state and has level 0. If no state is dispensable, it replaces the newest state and has that
state's level + 1. The states kept by Stumm–Walther have level 0.

At the end, the segments between kept states are reversed last to first, each by ``Binomial`` with the slots that have become free.

References: Stumm & Walther, *New algorithms for optimal online checkpointing*, 2010 (Algorithm I). Wang, Moin & Iaccarino, *Minimal
repetition dynamic checkpointing algorithm for unsteady adjoint calculation*, 2009 (Algorithm 1).
"""

from collections.abc import Iterator
from typing import final

from ... import _check
from ._schedules import Action, Advance, Free, Keep, Record, Reverse, binomial

_PASS = -1  # in place of a slot: the state goes by and is not held


@final
class OnlineCheckpoints:
    """Decides which states to hold as the segments arrive, and then the order of the reversal.

    Args:
        slots: c, including that of the first state.

    Raises:
        InputError: slots below 1.

    >>> checkpoints = OnlineCheckpoints(2)
    >>> [action for _ in range(3) for action in checkpoints.arrive()]
    [Keep(at=0), Advance(at=0, to=1), Keep(at=1), Advance(at=1, to=2)]
    >>> next(checkpoints.finish())
    Record(at=2)
    """

    def __init__(self, slots: int) -> None:
        self.slots = _check.positive("slots", slots)
        self.units = 0  # that have arrived
        self._held: list[int | None] = [None] * slots  # which state is in each slot
        self._levels: dict[int, int] = {}
        self._first = _stumm_walther(slots)

    @property
    def held(self) -> list[int]:
        """The states that are held, in order."""
        return sorted(state for state in self._held if state is not None)

    def arrive(self) -> Iterator[Action]:
        """One more segment has arrived, so the one before it was not the last: decide whether to hold its state, and run it forward."""
        self.units += 1
        state = self.units - 2
        if state < 0:
            return
        slot = next(self._first, None)
        slot = self._wang_moin(state) if slot is None else slot
        if slot != _PASS:
            yield from self._put(state, slot)
        yield Advance(state, state + 1)

    def finish(self) -> Iterator[Action]:
        """There are no more segments: reverse them. All except the last have been run forward."""
        stop = self.units - 1
        yield Record(stop)
        yield Reverse(stop)
        for k, state in reversed(list(enumerate(self.held))):
            yield from binomial(state, stop, self.slots - k, here=stop + 1)
            stop = state

    def _put(self, state: int, slot: int) -> Iterator[Action]:
        old = self._held[slot]
        if old is not None:
            yield Free(old)
            self._levels.pop(old, None)
        self._held[slot] = state
        yield Keep(state)

    def _wang_moin(self, state: int) -> int:
        """The slot for a state: the latest dispensable one's, or the newest's."""
        later = self.held[1:]  # state 0 stays
        if not later:
            return _PASS
        highest = 0
        for old in reversed(later):
            level = self._levels.get(old, 0)
            if level < highest:
                self._levels[state] = 0
                return self._held.index(old)
            highest = max(highest, level)
        newest = later[-1]
        self._levels[state] = self._levels.get(newest, 0) + 1
        return self._held.index(newest)


def _stumm_walther(c: int) -> Iterator[int]:
    """The slot of each state in turn."""
    yield from range(c)
    for j in range(1, c + 1):
        yield _PASS
        yield from [c - j, *range(1, c - j)][: c - j]
