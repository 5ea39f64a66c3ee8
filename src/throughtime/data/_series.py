"""Series in equal steps of time, standardised on their training part: what they know of themselves, in files or in memory.

N rows · C columns · V targets · G series.
"""

import abc
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from .. import _check
from .._check import InputError
from ._kept import kept_array
from ._table_rows import Columns
from ._times import Calendar

PARTS = ("train", "valid", "test")


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


def stamp(path: Path) -> dict[str, object]:
    """What tells a file from what it may become."""
    about = path.stat()
    return {"path": str(path.resolve()), "size": about.st_size, "modified": about.st_mtime_ns, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
