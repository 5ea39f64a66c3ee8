"""What the loop does about faults: a step that is not finite, a loss that runs away, a disk that cannot be written.

A report's loss runs away from the reports before it where

    L > 2 q,    q the 0.9 quantile of the last 32 reports' losses, 8 at least        (1)
"""

import time
from collections.abc import Sequence
from typing import final

from .._check import NonFinite
from ._generators import generator_states
from ._report import AbstractReport
from ._standing import Standing
from ._state import refuse_non_finite
from ._unit import number
from .options import LoopOptions, SaveEvery

MOST_SKIPPED = 10  # steps in a row
MOST_ROLLBACKS = 5
SLOWER = 0.5  # the learning rate's factor after each rollback

_RECENT = 32  # (1)
_FEWEST, _TIMES, _QUANTILE = 8, 2.0, 0.9  # (1)


@final
class Faults:
    """What becomes of a run's faults, as its options say."""

    def __init__(self, standing: Standing, loop: LoopOptions) -> None:
        self._at, self._loop = standing, loop
        self._unsaved = ""  # why the last save failed

    def watch_loss(self, report: AbstractReport, loss: float) -> None:
        """Say so once when the loss runs away from what it was."""
        p = self._at.progress
        if (away := runs_away(loss, p.recent)) and not p.diverging:
            quantile = usual(p.recent) or 0.0
            sentence = f"the loss runs away: {number(loss, 3)}, where nine in ten reports before had at most {quantile:.3f}"
            report.event("diverging", p.step, sentence, loss=loss, quantile=quantile)
        p.diverging, p.recent = away, (*p.recent, loss)[-_RECENT:]

    def go_on_without(self, first: NonFinite, report: AbstractReport, seconds: float) -> None:
        """After a step that is not finite: what --on-nonfinite says, as long as there is hope.

        Raises:
            NonFinite: it says to stop, or it was done too often.
        """
        p = self._at.progress
        match self._loop.on_nonfinite:
            case "skip" if p.skipped_in_a_row < MOST_SKIPPED:
                with self._at.changing:
                    p.skip(seconds)
                    self._at.carry, self._at.generators = None, generator_states()  # the state may be what went wrong: begin anew
                report.event("skipped", p.step, f"skipped: {first} was the first that is not finite", first=str(first))
            case "rollback" if p.rollbacks < MOST_ROLLBACKS:
                self._roll_back(first, report)
            case _:
                raise self._give_up(first) from None

    def refuse_weights(self, report: AbstractReport | None) -> None:
        """Stop, or go back, before weights that are not finite are taken for a model."""
        try:
            refuse_non_finite(self._at.model)
        except NonFinite as first:
            if report is None or self._loop.on_nonfinite != "rollback":
                raise self._give_up(first) from None
            self.go_on_without(first, report, 0.0)

    def save(self, report: AbstractReport, *, last: bool) -> None:
        """Save; where that fails, say so, go on, and try again later.

        Raises:
            OSError: it fails at the last chance.
        """
        try:
            self.refuse_weights(report)
            self._at.save()
            if self._unsaved:
                report.tell(f"step {self._at.progress.step:,}  saved again")
            self._unsaved = ""
        except OSError as error:
            if last:
                raise
            reason, self._at.saved_at = str(error.strerror or error), time.monotonic()
            if reason != self._unsaved:
                report.tell(
                    f"step {self._at.progress.step:,}  cannot save ({reason}); training goes on, the state after step "
                    f"{self._at.saved_step:,} stands, and the next try is in {SaveEvery.of(self._loop.save_every)}"
                )
            self._unsaved = reason

    def _roll_back(self, first: NonFinite, report: AbstractReport) -> None:
        """The state that was saved last, with half the learning rate from there on."""
        p, at, rollbacks = self._at.progress, self._at.progress.step + 1, self._at.progress.rollbacks + 1
        with self._at.changing:
            self._at.go_back()
            p.rollbacks = rollbacks
        report.back_to(p.step)
        sentence = (
            f"back from step {at:,}, where {first} was the first that is not finite; on with {SLOWER**rollbacks:g} of the learning rate"
        )
        report.event("rollback", p.step, sentence, first=str(first), rate_factor=SLOWER**rollbacks)
        self._at.save()

    def _give_up(self, first: NonFinite) -> NonFinite:
        """Save what is still good, and say what went wrong."""
        at = self._at.progress.step
        try:
            self._at.save_state()
        except NonFinite:
            pass  # the weights are gone too: what was saved before them stands
        return NonFinite(
            f"the loss or its gradient is not a finite number at step {at + 1}: {first} went first. The last good state, after step "
            f"{self._at.saved_step}, is saved in {self._at.folder.path}; go on from it by `resume` with a lower `lr` or `clip`, or begin "
            "anew."
        )


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
