"""What the loop does about a step that is not finite, and how it sees that a loss runs away.

A report's loss runs away from the reports before it where

    L > 2 q,    q the 0.9 quantile of the last 32 reports' losses, 8 at least        (1)
"""

from collections.abc import Sequence
from typing import Literal

OnNonFinite = Literal["stop", "skip", "rollback"]

MOST_SKIPPED = 10  # steps in a row
MOST_ROLLBACKS = 5
SLOWER = 0.5  # the learning rate's factor after each rollback
RECENT = 32  # (1)

_FEWEST, _TIMES, _QUANTILE = 8, 2.0, 0.9  # (1)


def usual(recent: Sequence[float]) -> float | None:
    """q of (1); None where there are too few reports.

    >>> usual([3.0, 2.0, 1.0]), usual([float(x) for x in range(1, 11)])
    (None, 9.0)
    """
    if len(recent) < _FEWEST:
        return None
    return sorted(recent)[round(_QUANTILE * (len(recent) - 1))]


def runs_away(loss: float, recent: Sequence[float]) -> bool:
    """(1).

    >>> runs_away(9.0, [2.0] * 8), runs_away(3.9, [2.0] * 8), runs_away(9.0, [2.0])
    (True, False, False)
    """
    q = usual(recent)
    return q is not None and loss > _TIMES * q
