"""Contestants that take turns, so that a machine whose speed changes changes it for all of them."""

import time
from collections.abc import Callable, Mapping

from ._row import Spread

Call = Callable[[], object]
Timed = Callable[[int], float]  # so many calls → seconds of one

ROUNDS = 9


def contest(contestants: Mapping[str, Timed], seconds: float, scale: float = 1.0) -> dict[str, Spread]:
    """Nine rounds in about so many seconds; of each contestant the seconds of one call, times ``scale``.

    Each gets the same time in a round. Its first two calls are not counted: they allocate and warm up.
    """
    once = {name: min(timed(1), timed(1)) for name, timed in contestants.items()}
    turn = seconds / (ROUNDS * len(contestants))
    calls = {name: max(1, min(5000, int(turn / s))) for name, s in once.items()}
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, timed in contestants.items():
            found[name].append(scale * timed(calls[name]))
    return {name: Spread.of(values) for name, values in found.items()}


def timed(call: Call) -> Timed:
    """A call as a contestant."""

    def run(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls

    return run
