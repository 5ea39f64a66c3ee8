"""Rows of a table in equal steps of time: what is read of a file before anything is standardised.

N rows · C columns · G series.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import final

import numpy as np

from .._check import InputError
from ._columns import TableFile
from ._times import Calendar, calendar_of, in_order

_MOST_FILLED = 20  # times as many steps as rows: beyond, the times are no series


@final
@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what.

    Attributes:
        target: what is forecast.
        features: what else is read, up to the moment of the forecast.
        known: what is known beforehand, such as a holiday.
        group: the column that tells the series apart; None: there is one.
        time: the column of times; None: a row is a step.
    """

    target: tuple[str, ...]
    features: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None

    @property
    def read(self) -> list[str]:
        """The columns of numbers, in the order of the values: targets, features, known."""
        return [*self.target, *self.features, *self.known]


@final
@dataclass(frozen=True)
class Read:
    """Series of a file in equal steps, not yet standardised."""

    values: np.ndarray  # (N, C) float64
    names: list[str]
    firsts: list[float]
    bounds: np.ndarray  # (G + 1,) the rows of each
    places: list[int]  # of each one's first step after the first of all
    calendar: Calendar
    filled: int


def read_series(path: Path, columns: Columns) -> Read:
    """The series of a table in equal steps of time; a step that the table leaves out has no values.

    Raises:
        InputError: columns that are not there, text or infinities among numbers, times that fall, come twice or keep no step.
    """
    table = TableFile(path)
    for flag, names in (("--target", columns.target), ("--features", columns.features), ("--known-future", columns.known)):
        table.choose(flag, names)
    for flag, name in (("--group", columns.group), ("--time", columns.time)):
        table.choose(flag, [name] if name else [])
    if twice := {n for n in columns.read if columns.read.count(n) > 1}:
        raise InputError(
            f"{sorted(twice)[0]!r} is a target, a feature or known beforehand more than once; expected one of them. Leave one out."
        )
    values = table.numbers(columns.read)
    names, codes = _coded(table.words(columns.group)) if columns.group else ([""], np.zeros(len(values), np.int64))
    order = np.argsort(codes, kind="stable")
    cuts = np.concatenate(([0], np.cumsum(np.bincount(codes, minlength=len(names)))))
    if columns.time is None:
        return Read(values[order], names, [0.0] * len(names), cuts, [0] * len(names), Calendar("row", 1.0), 0)
    times, kind = table.times(columns.time)
    series = [times[order[a:b]] for a, b in pairwise(cuts)]
    header = 1 if path.suffix.lower() in (".parquet", ".pq") else 2
    for name, one, (a, b) in zip(names, series, pairwise(cuts), strict=True):
        in_order(str(path), one, order[a:b] + header, kind, columns.time, name)
    calendar = calendar_of(series, "datetime" if kind == "datetime" else "number")
    if calendar is None:
        raise InputError(
            f"{path}: the times in {columns.time!r} come in unequal steps; expected equal ones, some of them left out perhaps. "
            "Resample the table to equal steps."
        )
    return _filled(path, values[order], names, series, cuts, calendar)


def _filled(path: Path, values: np.ndarray, names: list[str], series: list[np.ndarray], cuts: np.ndarray, calendar: Calendar) -> Read:
    """Every step has a row."""
    places = [calendar.places(times) for times in series]
    sizes = [int(p[-1]) + 1 for p in places if p is not None]
    if sum(sizes) > _MOST_FILLED * len(values) + 1000:
        raise InputError(
            f"{path}: the times leave out {sum(sizes) - len(values):,} of {sum(sizes):,} steps; expected most of them. Name the column of "
            "times with --time, or resample the table."
        )
    bounds = np.concatenate(([0], np.cumsum(sizes)))
    whole = np.full((int(bounds[-1]), values.shape[1]), np.nan)
    for i, at in enumerate(places):
        assert at is not None, "calendar_of has seen to it"
        whole[bounds[i] + at] = values[cuts[i] : cuts[i + 1]]
    firsts = [float(times[0]) for times in series]
    earliest = calendar.places(np.array([min(firsts), *firsts]))
    begins = [int(p) for p in earliest[1:]] if earliest is not None else [0] * len(firsts)
    return Read(whole, names, firsts, bounds, begins, calendar, len(whole) - len(values))


def _coded(words: list[str]) -> tuple[list[str], np.ndarray]:
    """Each word's number, in the order in which they come first."""
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(word, len(numbers)) for word in words])
    return list(numbers), codes
