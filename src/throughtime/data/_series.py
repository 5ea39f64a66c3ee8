"""Series of a table: rows in equal steps of time, standardised on their training part, memory-mapped; and windows to forecast from.

The inputs of step t are (1) all columns at t, standardised, or their changes since t−1, 0 where missing; (2) for each of them a 1 where
that is missing; (3) the columns that are known beforehand, at t+1 … t+K. Its targets are the target columns at t+1 … t+K, or their changes
since the last known value, NaN where missing.

N rows · C columns · V targets · K horizon.
"""

import abc
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, final

import numpy as np

from .. import _check
from .._check import InputError
from ._columns import TableFile
from ._kept import kept_array
from ._sequences import AbstractSequences, Steps
from ._times import Calendar, calendar_of, in_order

PARTS = ("train", "valid", "test")
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
class Group:
    """One series: rows start..stop−1 of the values; validation and test begin at ``valid`` and ``test``, and end at ``end``."""

    name: str
    first: float  # its first time
    start: int
    valid: int
    test: int
    end: int
    stop: int

    def bounds(self, part: str) -> tuple[int, int]:
        """The rows of a part."""
        return {"train": (self.start, self.valid), "valid": (self.valid, self.test), "test": (self.test, self.end)}[part]


class AbstractSeries(abc.ABC):
    """Series in equal steps of time, standardised on their training part.

    Attributes:
        columns: which they are.
        groups: the series.
        mean: (G, C) of each series' training part.
        scale: (G, C) the standard deviations there; 1 for a constant.
        error: (G, V) mean |y_t − y_{t−m}| of the training part, standardised, m the season: what MASE divides by.
        calendar: the step of time.
        season: m.
        filled: steps that the times leave out.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        made = about["columns"]
        self.columns = Columns(tuple(made["target"]), tuple(made["features"]), tuple(made["known"]), made["group"], made["time"])
        self.groups = [Group(**group) for group in about["groups"]]
        self.calendar = Calendar(**about["calendar"])
        self.season, self.filled = int(about["season"]), int(about["filled"])
        self.mean, self.scale, self.error = (np.array(about[name], np.float64) for name in ("mean", "scale", "error"))
        G, C, V = len(self.groups), len(self.columns.read), len(self.columns.target)
        assert (self.mean.shape, self.scale.shape, self.error.shape) == ((G, C), (G, C), (G, V))

    @abc.abstractmethod
    def open_values(self) -> np.ndarray:
        """The values (N, C), float32, standardised; NaN where missing."""

    @abc.abstractmethod
    def open_last(self) -> np.ndarray:
        """(N, V) the last known value of each target up to each row."""

    def group(self, name: str) -> int:
        """The number of a series.

        Raises:
            InputError: the run has not learned from it.
        """
        for g, group in enumerate(self.groups):
            if group.name == name:
                return g
        raise InputError(f"the series {name!r} was not among those of training; expected one of them. Leave its rows out, or train again.")


@final
class SeriesTable(AbstractSeries):
    """Series in memory-mapped files, as ``write_series`` leaves them in a folder."""

    def __init__(self, folder: Path) -> None:
        about = _check.json_file(folder / "series.json")
        try:
            assert isinstance(about, dict)
            super().__init__(about)
            self._source = about.get("source")
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder / 'series.json'} is not what throughtime wrote ({error!r:.60}). Restore it, or train again."
            ) from None
        self.folder = folder

    def refuse_changed(self) -> None:
        """Refuse to go on where the file that the table was read from is another by now; one that is no longer there is not missed.

        Raises:
            InputError: it has changed.
        """
        match self._source:
            case {"path": str(name), "size": int(size), "modified": int(modified), "sha256": str(sha256)} if Path(name).is_file():
                now = Path(name).stat()
                if (now.st_size, now.st_mtime_ns) != (size, modified) and (now.st_size != size or _sha256(Path(name)) != sha256):
                    raise InputError(
                        f"{name} has changed since training read it: it has {now.st_size:,} bytes, and had {size:,}; expected the same. To "
                        f"forecast from it as it is now, give it as --data {name}; or restore it."
                    )

    def open_values(self) -> np.ndarray:
        """The values (N, C), mapped.

        Raises:
            InputError: the file is missing, cut short or another one.
        """
        return self._opened("series.npy", len(self.columns.read))

    def open_last(self) -> np.ndarray:
        """(N, V) the last known value of each target up to each row, mapped; InputError as ``open_values``."""
        return self._opened("last.npy", len(self.columns.target))

    def _opened(self, name: str, C: int) -> np.ndarray:
        return kept_array(self.folder / name, (self.groups[-1].stop, C), np.float32)


@final
class SeriesArrays(AbstractSeries):
    """Series in memory, as ``standardised`` makes them."""

    def __init__(self, about: dict[str, Any], values: np.ndarray, last: np.ndarray) -> None:
        super().__init__(about)
        self._values, self._last = values, last

    def open_values(self) -> np.ndarray:
        return self._values

    def open_last(self) -> np.ndarray:
        return self._last


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


def write_series(
    path: Path,
    folder: Path,
    columns: Columns,
    *,
    split: Sequence[float],
    shortest: int,
    season: int | None = None,
    parent: SeriesTable | None = None,
    told: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> SeriesTable:
    """Read a table, standardise it on its training part, and keep it in a folder.

    Args:
        path: CSV or Parquet.
        folder: for series.npy and series.json.
        columns: which are what.
        split: shares of the time for training, validation and test, or numbers of steps; what is beyond them is not used.
        shortest: the steps that a series must have for training.
        season: steps; None: what is usual for the step of time.
        parent: keep its means and scales, as its weights expect them.
        told: progress.

    Raises:
        InputError: as ``read_series``; a series that is too short, a target that is constant, a column without a value.
    """
    told("reading", 0, 2)
    read = read_series(path, columns)
    told("standardising", 1, 2)
    groups = _groups(str(path), read, split, shortest)
    kept = {} if parent is None else {g.name: (parent.mean[parent.group(g.name)], parent.scale[parent.group(g.name)]) for g in groups}
    series = standardised(str(path), read, columns, groups, season=season, kept=kept)
    if parent is None:
        _refuse_constant(path, columns, series.values, groups)
    np.save(folder / "series.npy", series.values, allow_pickle=False)
    np.save(folder / "last.npy", series.last, allow_pickle=False)
    (folder / "series.json").write_text(json.dumps(series.about | {"source": _stamp(path)}))
    return SeriesTable(folder)


def measured_series(path: Path, parent: SeriesTable, *, shortest: int) -> SeriesArrays:
    """A table as the network of another one reads it: with that one's means, scales and season, and all of it is the test part.

    Raises:
        InputError: as ``read_series``; a series that the other has not, or that is shorter than ``shortest``; other steps of time.
    """
    read = read_series(path, parent.columns)
    if (read.calendar.kind, read.calendar.step) != (parent.calendar.kind, parent.calendar.step):
        raise InputError(
            f"{path}: the times come in other steps than those of training; expected the same. Resample the table, or name another."
        )
    groups, own = [], [parent.group(name) for name in read.names]
    for name, first, (a, b) in zip(read.names, read.firsts, pairwise(map(int, read.bounds)), strict=True):
        if b - a < shortest:
            what = f"the series {name!r}" if name else "the table"
            raise InputError(
                f"{path}: {what} has {_check.counted(b - a, 'step')}; expected {shortest:,} at least, the run's --context and --horizon "
                "together. Give more of its past."
            )
        groups.append(Group(name, first, a, a, a, b, b))
    kept = {name: (parent.mean[g], parent.scale[g]) for name, g in zip(read.names, own, strict=True)}
    found = standardised(str(path), read, parent.columns, groups, season=parent.season, kept=kept)
    return SeriesArrays(found.about | {"error": parent.error[own].tolist()}, found.values, found.last)


def _stamp(path: Path) -> dict[str, object]:
    """What tells a file from what it may become."""
    about = path.stat()
    return {"path": str(path.resolve()), "size": about.st_size, "modified": about.st_mtime_ns, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Standardised(NamedTuple):
    """Series with their scales."""

    about: dict[str, Any]  # in plain values
    values: np.ndarray  # (N, C) float32
    last: np.ndarray  # (N, V) float32, the last known value of each target


def standardised(
    place: str,
    read: Read,
    columns: Columns,
    groups: list[Group],
    *,
    season: int | None = None,
    kept: Mapping[str, tuple[np.ndarray, np.ndarray]] = MappingProxyType({}),
) -> Standardised:
    """Series brought to a mean of 0 and a standard deviation of 1 on their training part.

    Args:
        place: where they come from, for messages.
        read: what was read; its values are changed.
        columns: which are what.
        groups: the parts of each series.
        season: steps; None: what is usual for the step of time.
        kept: means and scales (C,) by the name of the series, where they are not to be measured.

    Raises:
        InputError: a column without a value.
    """
    m = season or read.calendar.season
    means, scales, errors = [], [], []
    for group in groups:
        train = read.values[group.start : group.valid]
        mean, scale = kept[group.name] if group.name in kept else _scales(place, columns, group, train)
        read.values[group.start : group.stop] = (read.values[group.start : group.stop] - mean) / scale
        y = read.values[group.start : group.valid, : len(columns.target)]
        with np.errstate(invalid="ignore"):
            apart = np.abs(y[m:] - y[:-m]) if len(y) > m else np.abs(y[1:] - y[:-1])
        errors.append([float(np.nanmean(e)) if np.isfinite(e).any() else 0.0 for e in apart.T])
        means.append(mean.tolist())
        scales.append(scale.tolist())
    values = read.values.astype(np.float32)
    last = np.concatenate([carried_on(values[g.start : g.stop, : len(columns.target)]) for g in groups])
    about = {
        "columns": asdict(columns), "groups": [asdict(g) for g in groups], "calendar": asdict(read.calendar), "season": m,
        "filled": read.filled, "mean": means, "scale": scales, "error": errors,
    }  # fmt: skip
    return Standardised(about, values, last)


def _groups(place: str, read: Read, split: Sequence[float], shortest: int) -> list[Group]:
    """Where each series is cut: at the same times for all of them."""
    steps = max(p + int(b - a) for p, a, b in zip(read.places, read.bounds, read.bounds[1:], strict=False))
    ends = np.cumsum(split)
    cuts = [min(steps, round(e * steps) if ends[-1] <= 1 + 1e-6 else int(e)) for e in ends]
    found = []
    for name, first, at, a, b in zip(read.names, read.firsts, read.places, read.bounds, read.bounds[1:], strict=False):
        valid, test, end = (int(np.clip(a + cut - at, a, b)) for cut in cuts)
        if valid - a < shortest:
            what = f"the series {name!r}" if name else "the table"
            raise InputError(
                f"{place}: {what} has {_check.counted(int(b - a), 'step')}, {max(0, valid - a):,} of them for training; expected "
                f"{shortest:,} at least, --context and --horizon together. Lower these, or give a longer series."
            )
        found.append(Group(name, first, int(a), valid, test, end, int(b)))
    return found


def _scales(place: str, columns: Columns, group: Group, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations over what is known."""
    known = np.isfinite(train)
    if not known.any(0).all():
        name = columns.read[int((~known.any(0)).argmax())]
        of = f" of the series {group.name!r}" if group.name else ""
        raise InputError(f"{place}: column {name!r}{of} has no value in the training part; expected some. Leave the column out.")
    mean = np.nanmean(train, 0)
    scale = np.nanstd(train, 0)
    return mean, np.where(scale > 1e-12 * np.maximum(1, np.abs(mean)), scale, 1.0)


def _refuse_constant(path: Path, columns: Columns, values: np.ndarray, groups: list[Group]) -> None:
    """A target that never changes is not forecast but known."""
    for v, name in enumerate(columns.target):
        if all(np.nanmax(values[g.start : g.valid, v]) == np.nanmin(values[g.start : g.valid, v]) for g in groups):
            raise InputError(
                f"{path}: the target {name!r} is constant in the training part; expected values that change. Name another with --target."
            )


@final
class Origins(AbstractSequences):
    """The steps of a table from which forecasts are made, as sequences to read: each piece begins ``context`` steps early.

    Args:
        table: the series.
        part: "train": every origin whose next step is in the part. "valid", "test": every origin whose K next steps are.
        horizon: K.
        context: steps that are read before a forecast counts.
        pieces: a long series is cut into so many, as far as its length allows.
        relative: the targets are changes since the last known value.
        most: only so many origins from the part's start.
    """

    def __init__(
        self, table: AbstractSeries, part: str, *, horizon: int, context: int, pieces: int, relative: bool = True, most: int | None = None
    ) -> None:
        self.table, self.part, self.horizon, self.context = table, part, horizon, context
        self.relative = relative
        self.values, self.last = (np.asarray(array) for array in (table.open_values(), table.open_last()))  # a map's own slices are slow
        spans = [(g, *self._origins(group)) for g, group in enumerate(table.groups)]
        spans = [(g, a, min(b, a + most) if most is not None else b) for g, a, b in spans if b > a]
        longest = max(1, -(-sum(b - a for _, a, b in spans) // pieces))
        self.pieces = [
            (g, max(table.groups[g].start, a - context + 1), a, min(a + longest, b))
            for g, first, b in spans
            for a in range(first, b, longest)
        ]
        self.lengths = np.array([stop - start for _, start, _, stop in self.pieces], np.int64)
        of = [table.groups[g] for g, *_ in self.pieces]
        rows = [(*piece[1:], group.start, group.bounds(part)[1], group.stop) for piece, group in zip(self.pieces, of, strict=True)]
        self._bounds = np.array(rows, np.int64).reshape(-1, 6).T  # (6, P)

    def _origins(self, group: Group) -> tuple[int, int]:
        start, stop = group.bounds(self.part)
        if self.part == "train":
            return start + self.context - 1, stop - 1
        return max(start - 1, group.start + self.context - 1), stop - self.horizon

    def __len__(self) -> int:
        """How many origins."""
        return sum(stop - first for _, _, first, stop in self.pieces)

    def read(self, i: int, start: int, stop: int) -> Steps:
        """Steps start..stop−1 of piece i."""
        steps = self.side_by_side(np.array([i]), start, stop - start)
        return Steps(steps.inputs[:, 0], steps.targets[:, 0], steps.counts[:, 0])

    def side_by_side(self, numbers: np.ndarray, start: int, T: int) -> Steps:
        K, V, columns, own = self.horizon, len(self.table.columns.target), self.table.columns, self._bounds[:, numbers]
        begin, first, stop, series_start, part_end, series_end = own  # (B,) each
        at = begin + start + np.arange(-1, T + K)[:, None]  # (T + K + 1, B): the row before the first, and K after the last
        rows = self.values.take(at, 0, mode="clip")  # (T + K + 1, B, C)
        here = at[1 : T + 1]
        if (at[-1] >= part_end).any():
            rows[at >= part_end, :V] = np.nan  # no target lies beyond the part
            rows[at >= series_end] = np.nan
        if (new := at[0] < series_start).any():
            rows[0, new] = rows[1, new]  # the first row of a series is no change
        targets = _ahead(rows[2:, :, :V], T, K)
        if self.relative:
            targets.reshape(*here.shape, K, V)[:] -= self.last.take(here, 0, mode="clip")[:, :, None]
        counts = (here >= first) & ~np.isnan(targets).all(-1)
        inputs = inputs_of(rows[1:], T, K, columns, relative=self.relative, before=rows[0])
        if (here[-1] >= stop).any():
            over = here >= stop
            inputs[over], targets[over], counts[over] = 0, 0, False
        return Steps(inputs, targets, counts)


def carried_on(rows: np.ndarray) -> np.ndarray:
    """Missing values replaced by the last known one before them; 0, the mean, before the first."""
    index = np.where(np.isfinite(rows), np.arange(len(rows))[:, None], -1)
    last = np.maximum.accumulate(index, 0)
    return np.where(last >= 0, np.take_along_axis(rows, np.maximum(last, 0), 0), 0).astype(rows.dtype)


def inputs_of(
    rows: np.ndarray, steps: int, horizon: int, columns: Columns, *, relative: bool, before: np.ndarray | None = None
) -> np.ndarray:
    """(1)–(3) of the first ``steps`` rows (·, C), or of those of B series side by side (·, B, C).

    Args:
        rows: those after the first ``steps`` are read for what is known beforehand.
        steps: how many.
        horizon: K.
        columns: which they are.
        relative: targets and features enter as changes since the row before.
        before: that of the first row (C,), or (B, C); None: it is the start of the series, and there is no change.
    """
    C, known, moving = rows.shape[-1], len(columns.known), len(columns.target) + len(columns.features)
    now = values = rows[:steps]
    if relative:
        first = now[:1] if before is None else before[None]
        values = now - np.concatenate([first, now[:-1]])
        values[..., moving:] = now[..., moving:]
    missing = np.isnan(values)
    inputs = np.empty((*now.shape[:-1], input_size(columns, horizon)), np.float32)
    inputs[..., :C], inputs[..., C : 2 * C] = np.where(missing, 0, values), missing
    if known:
        inputs[..., 2 * C :] = np.nan_to_num(_ahead(rows[1:, ..., -known:], steps, horizon))
    return inputs


def _ahead(rows: np.ndarray, steps: int, horizon: int) -> np.ndarray:
    """(steps, ·, K·C): rows t … t+K−1 (·, C) for each step t, NaN where there are none."""
    ahead = np.full((steps, *rows.shape[1:-1], horizon, rows.shape[-1]), np.nan, np.float32)
    for k in range(horizon):
        found = rows[k : k + steps]
        ahead[: len(found), ..., k, :] = found
    return ahead.reshape(*ahead.shape[:-2], -1)


def input_size(columns: Columns, horizon: int) -> int:
    """The numbers of (1)–(3)."""
    return 2 * len(columns.read) + horizon * len(columns.known)
