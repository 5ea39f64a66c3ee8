"""Equal steps of time: which step a column of times has, which steps are left out, and how the times go on.

Times are microseconds since 1970 or numbers. A step is so many of these, or so many months.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, final

import numpy as np

from .._check import InputError

_DAY = 86_400_000_000  # microseconds
Kind = Literal["datetime", "months", "number", "row"]
_SEASONS = {_DAY: 7, _DAY // 24: 24, _DAY // 48: 48, _DAY // 96: 96, 7 * _DAY: 52}


@final
@dataclass(frozen=True)
class Calendar:
    """Times that come in equal steps.

    Attributes:
        kind: what a step is counted in: microseconds, months, numbers, or rows where there are no times.
        step: of so many.

    >>> Calendar("months", 1).at(0, 2)
    '1970-03-01'
    """

    kind: Kind
    step: float

    @property
    def season(self) -> int:
        """How many steps a season usually has; 1: none that is known."""
        if self.kind == "months":
            return max(1, round(12 / self.step))
        return _SEASONS.get(int(self.step), 1) if self.kind == "datetime" else 1

    def at(self, start: float, steps: int) -> str:
        """The time so many steps after a time, as it is written to a file."""
        match self.kind:
            case "months":
                return _written(_moved(_moment(start), steps * int(self.step)))
            case "datetime":
                return _written(_moment(start + steps * self.step))
        value = start + steps * self.step
        return str(int(value)) if float(value).is_integer() else repr(float(value))

    def places(self, times: np.ndarray) -> np.ndarray | None:
        """(N,) how many steps each time is after the first; None: not whole steps."""
        if self.kind == "months":
            months, rest = _months(times)
            places = (months - months[0]) / self.step
            return places.astype(np.int64) if (rest == rest[0]).all() and (places % 1 == 0).all() else None
        places = (times - times[0]) / self.step
        whole = np.rint(places)
        return whole.astype(np.int64) if (np.abs(places - whole) <= 1e-6 * np.maximum(1, np.abs(whole))).all() else None


def calendar_of(series: list[np.ndarray], kind: Literal["datetime", "number"]) -> Calendar | None:
    """The commonest step of some series of rising times, by time or by months; None: no step that all of them keep."""
    gaps = np.concatenate([np.diff(times) for times in series])
    steps, counts = np.unique(gaps, return_counts=True)
    candidates = [Calendar(kind, float(steps[counts.argmax()]))] if len(steps) else [Calendar(kind, 1.0)]
    if kind == "datetime" and len(steps) and steps.min() >= 28 * _DAY:
        months = np.concatenate([np.diff(_months(times)[0]) for times in series])
        found, of = np.unique(months[months > 0], return_counts=True)
        candidates += [Calendar("months", float(found[of.argmax()]))] if len(found) else []
    return next((c for c in candidates if all(c.places(times) is not None for times in series)), None)


def _moment(microseconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))


def _moved(moment: datetime, months: int) -> datetime:
    month = moment.month - 1 + months
    return moment.replace(year=moment.year + month // 12, month=month % 12 + 1)


def _written(moment: datetime) -> str:
    midnight = (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0)
    return moment.strftime("%Y-%m-%d") if midnight else moment.replace(tzinfo=None).isoformat(sep=" ")


def _months(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Months since 1970, and the microseconds since each month's start."""
    moments = times.astype("datetime64[us]")
    months = moments.astype("datetime64[M]")
    return months.astype(np.int64), (moments - months.astype("datetime64[us]")).astype(np.int64)


def in_order(path: str, times: np.ndarray, rows: np.ndarray, kind: str, flag: str, name: str) -> None:
    """Refuse times of one series that fall or come twice; ``rows`` are the rows that they come from, as a person counts them."""
    gaps = np.diff(times)
    if (gaps > 0).all():
        return
    at = int((gaps <= 0).argmax())
    of = f" of {name}" if name else ""
    shown = [_written(_moment(float(t))) if kind == "datetime" else f"{t:g}" for t in times[at : at + 2]]
    if gaps[at] == 0:
        remedy = (
            "Keep one of the two rows."
            if name
            else "Keep one of the two rows, or name the column that tells the series apart with --group."
        )
        raise InputError(f"{path}, row {rows[at + 1]:,}: the time {shown[1]}{of} comes a second time; expected each once. {remedy}")
    raise InputError(
        f"{path}, row {rows[at + 1]:,}: the time {shown[1]}{of} comes after {shown[0]}; expected rising times. Sort the table by {flag}."
    )
