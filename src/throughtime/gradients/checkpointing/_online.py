"""Checkpoints of a chain whose end is not known until it comes.

c slots, state 0 in one of them for good. While the chain goes by:

**Stumm–Walther I.** States 0..c−1 fill the slots. Then come phases j = 1..c of c + 1 − j states each: the first is let pass, and the next
c − j go into slots c − j, 1, 2, …, c − j − 1. That covers all states i < (c+1)(c+2)/2 − 1, and is as good as a schedule that knows the
length.

**Wang–Moin** from there on. Every kept state has a level, state 0's is ∞, and one is dispensable if a later one has a higher level. A new
state takes the place of a dispensable one, at level 0; where there is none, of the newest, at that one's level + 1. The states that
Stumm–Walther leave are of level 0.

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
    """Decides, segment by segment, which states are held; then how to go back.

    Args:
        slots: c, the first state's included.

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
        """One more segment is there, so the one before it was not the last: decide on its state, and run it through."""
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
        """No more segments: reverse those that came, all but the last of which have been run through."""
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
