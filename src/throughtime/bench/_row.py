"""What was measured: a row a case, a spread a contestant."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

OURS = "throughtime"


@final
@dataclass(frozen=True)
class Spread:
    """Of one contestant's measurements: the median and the quartiles.

    >>> Spread.of([3.0, 1.0, 2.0])
    Spread(low=1.0, median=2.0, high=3.0)
    """

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4)
        return cls(low, median, high)


@final
@dataclass(frozen=True)
class Row:
    """One case of a question.

    Attributes:
        question: a key of ``QUESTIONS``.
        case: what was measured, in words.
        unit: of the numbers: "ms", "µs", "s", "MB" or "tokens/s".
        found: of each contestant that was there, by its name.
    """

    question: str
    case: str
    unit: str
    found: dict[str, Spread]

    def ratio(self, peer: str) -> float:
        """How many times as good as the peer this package is: as fast, or as sparing.

        >>> both = {"throughtime": Spread(1, 2, 3), "torch": Spread(4, 5, 6)}
        >>> Row("steps", "GRU", "µs", both).ratio("torch"), Row("training", "GRU", "tokens/s", both).ratio("torch")
        (2.5, 0.4)
        """
        ours, theirs = self.found[OURS].median, self.found[peer].median
        return ours / theirs if self.unit.endswith("/s") else theirs / ours

    @property
    def peers(self) -> list[str]:
        return [name for name in self.found if name != OURS]
