"""Series brought to a mean of 0 and a standard deviation of 1 on their training part, and kept in a folder.

N rows · C columns · V targets.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from .. import _check
from .._check import InputError
from ._series import Group, SeriesArrays, SeriesTable, stamp
from ._table_rows import Columns, Read, read_series


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
    (folder / "series.json").write_text(json.dumps(series.about | {"source": stamp(path)}))
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


def carried_on(rows: np.ndarray) -> np.ndarray:
    """Missing values replaced by the last known one before them; 0, the mean, before the first."""
    index = np.where(np.isfinite(rows), np.arange(len(rows))[:, None], -1)
    last = np.maximum.accumulate(index, 0)
    return np.where(last >= 0, np.take_along_axis(rows, np.maximum(last, 0), 0), 0).astype(rows.dtype)


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
