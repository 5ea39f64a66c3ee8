"""Columns of a table file: CSV or Parquet, read by polars; numbers, times and names, with what is wrong named by row and value."""

import difflib
import gzip
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, final

import numpy as np

from .. import _numbers
from .._check import InputError
from ._named import perhaps_named

if TYPE_CHECKING:
    import polars as pl

_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"]
_FEW = 12  # names that a message lists
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # how files that polars would unpack begin
_ZLIB = (b"\x78\x01", b"\x78\x9c", b"\x78\xda")  # as polars knows it
_PART = 2**20  # bytes that are unpacked at a time, to be counted
_SMALLER = "Give a part of it, or a machine with more memory."


def polars() -> Any:
    """The package that reads tables.

    Raises:
        InputError: it is not installed.
    """
    try:
        import polars
    except ModuleNotFoundError as error:
        if error.name != "polars":
            raise
        raise InputError(
            "the package polars is not installed; expected it, as tables are read with it. Install it with: pip install "
            "'throughtime[tables]'."
        ) from None
    return polars


def listed(names: Sequence[str]) -> str:
    """Some of the names, and how many more there are."""
    few = ", ".join(names[:_FEW])
    return few if len(names) <= _FEW else f"{few} and {len(names) - _FEW:,} more"


@final
@dataclass(frozen=True)
class TableFile:
    """A table that can be read column by column.

    Raises:
        InputError: the file cannot be read or has no row.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "weather.csv")
    >>> _ = path.write_text("day,rain\\n1,0.5\\n2,\\n")
    >>> TableFile(path).numbers(["rain"]).tolist()
    [[0.5], [nan]]
    >>> folder.cleanup()
    """

    path: Path

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.lower() in (".parquet", ".pq")

    def names(self) -> list[str]:
        """The columns.

        Raises:
            InputError: two have the same name.
        """
        found = self._guarded(lambda: self._scan().collect_schema().names())
        if twice := sorted(name for name, count in Counter(found).items() if count > 1):
            raise InputError(f"{self.path} has the column {twice[0]!r} twice; expected each name once. Give them names of their own.")
        return found

    def choose(self, flag: str, wanted: Sequence[str]) -> list[str]:
        """The wanted columns.

        Raises:
            InputError: one is not there, or is wanted twice.
        """
        there = self.names()
        for name in wanted:
            if name not in there:
                near = difflib.get_close_matches(name, there, 1, 0.6) or [n for n in there if n.lower() == name.lower()]
                told = f"; perhaps {near[0]!r}" if near else ""
                raise InputError(f"{flag} is {name!r}, which is no column of {self.path}; expected one of {listed(there)}{told}.")
        if len(set(wanted)) < len(wanted):
            raise InputError(f"{flag} names a column twice: {', '.join(wanted)}; expected each once. Leave one out.")
        return list(wanted)

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Columns as float64 (N, C), NaN where a value is missing.

        Raises:
            InputError: text or an infinite value, by row and column.
        """
        frame = self._frame(names)
        return np.stack([self._number(frame[name]) for name in names], 1) if names else np.zeros((len(frame), 0))

    def whole_numbers(self, names: Sequence[str]) -> np.ndarray:
        """As ``numbers``; InputError where a value is missing too."""
        found = self.numbers(names)
        if np.isnan(found).any():
            row, column = (int(i) for i in np.argwhere(np.isnan(found))[0])
            raise InputError(f"{self.where(names[column], row)} is missing; expected a number in every row. Fill it in, or leave it out.")
        return found

    def labels(self, name: str) -> list[str | None]:
        """A column as text, None where a value is missing; whole numbers are written without a point."""
        pl = polars()
        column = self._frame([name])[name]
        if column.dtype.is_float() and (column.drop_nulls() == column.drop_nulls().floor()).all():
            column = column.cast(pl.Int64)
        return column.cast(pl.String).to_list()

    def words(self, name: str) -> list[str]:
        """A column as text; InputError where a value is missing."""
        pl = polars()
        column = self._frame([name])[name].cast(pl.String)
        if column.null_count():
            raise InputError(
                f"{self.where(name, int(column.is_null().arg_max() or 0))} is missing; expected a name in every row. Fill it in."
            )
        return column.to_list()

    def times(self, name: str) -> tuple[np.ndarray, str]:
        """A column of times: microseconds since 1970 and "datetime", or numbers and "number".

        Raises:
            InputError: a value that is no time, by row.
        """
        pl = polars()
        column = self._frame([name])[name]
        if column.dtype == pl.String:
            as_number = column.str.strip_chars().cast(pl.Float64, strict=False)
            column = as_number if as_number.null_count() == column.null_count() else self._parsed(column)
        if column.null_count():
            raise InputError(
                f"{self.where(name, int(column.is_null().arg_max() or 0))} is missing; expected a time in every row. Fill it in."
            )
        if column.dtype.is_temporal():
            if column.dtype == pl.Datetime and getattr(column.dtype, "time_zone", None):
                column = column.dt.convert_time_zone("UTC")
            return column.cast(pl.Datetime("us")).cast(pl.Int64).to_numpy(), "datetime"
        if not column.dtype.is_numeric():
            raise InputError(f"{self.path}: column {name!r} is {column.dtype}; expected times or numbers. Name another column with --time.")
        return column.cast(pl.Float64).to_numpy(), "number"

    def _refuse_missing(self, column: "pl.Series", what: str) -> None:
        if column.null_count():
            row = int(column.is_null().arg_max() or 0)
            raise InputError(f"{self.where(column.name, row)} is missing; expected {what} in every row. Fill it in.")

    def _parsed(self, column: "pl.Series") -> "pl.Series":
        pl = polars()
        try:
            found = column.str.strip_chars().str.to_datetime(strict=False, time_unit="us")
        except pl.exceptions.PolarsError:
            found = pl.Series(column.name, [None] * len(column), pl.Datetime("us"))
        if found.null_count() > column.null_count():
            row = int((found.is_null() & column.is_not_null()).arg_max() or 0)
            raise InputError(
                f"{self.where(column.name, row)} is {column[row]!r}; expected a time such as 2024-03-01 12:00, or a number. Mend that row."
            )
        return found

    def _number(self, column: "pl.Series") -> np.ndarray:
        pl = polars()
        if column.dtype == pl.String:
            words = column.str.strip_chars()
            numbers = words.cast(pl.Float64, strict=False)
            bad = numbers.is_null() & words.is_not_null() & ~words.is_in(_MISSING)
            if bad.any():
                row = int(bad.arg_max() or 0)
                raise InputError(
                    f"{self.where(column.name, row)} is {column[row]!r:.60}; expected a number. Mend that row, or leave the column out."
                )
            column = numbers
        elif not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
            raise InputError(f"{self.path}: column {column.name!r} is {column.dtype}; expected numbers. Leave it out.")
        found = column.cast(pl.Float64).to_numpy()
        if np.isinf(found).any():
            row = int(np.isinf(found).argmax())
            raise InputError(f"{self.where(column.name, row)} is infinite; expected a finite number, or nothing where it is missing.")
        return found

    def where(self, name: str, row: int) -> str:
        """A cell, for a person: rows are counted as a spreadsheet does, with the header as row 1."""
        return f"{self.path}, row {row + (1 if self._is_parquet else 2):,}: {name!r}"

    def _frame(self, names: Sequence[str]) -> "pl.DataFrame":
        """Columns, as what they look like; as text where the first rows did not say what the later ones have."""
        pl = polars()
        lazy = self._scan().select(list(names))
        if self._is_parquet:
            self._refuse_more_than_memory(len(names))
        try:
            frame = lazy.collect()
        except pl.exceptions.PolarsError:
            frame = self._guarded(lambda: self._scan(text=True).select(list(names)).collect())
        if not len(frame):
            raise InputError(f"{self.path} has no row of values; expected a table with a line of names and rows below it.")
        return frame

    def _refuse_more_than_memory(self, columns: int) -> None:
        """A Parquet file of a few kilobytes can tell billions of rows, which polars would begin to make."""
        rows = self._guarded(lambda: self._scan().select(polars().len()).collect()).item()
        _numbers.memory(8 * columns * rows, f"{columns} of the columns of {self.path}, {rows:,} rows,", _SMALLER)

    def _scan(self, *, text: bool = False) -> "pl.LazyFrame":
        pl = polars()
        if not self.path.is_file():
            raise InputError(
                f"{self.path} cannot be read (no such file); expected a table, CSV or Parquet. Check the path.{perhaps_named(self.path)}"
            )
        if self._is_parquet:
            return pl.scan_parquet(self.path)
        _numbers.memory(_unpacked(self.path), f"what {self.path} has packed", _SMALLER)
        return pl.scan_csv(self.path, separator=self._separator(), null_values=_MISSING, infer_schema=not text, infer_schema_length=10_000)

    def _separator(self) -> str:
        with self.path.open("rb") as file:
            head = file.readline(1 << 20)
        return max((",", ";", "\t"), key=lambda s: head.count(s.encode()))

    def _guarded(self, work: Any) -> Any:
        pl = polars()
        try:
            return work()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{self.path} cannot be read as a table ({reason:.100}); expected CSV with a line of names, or Parquet."
            ) from None


def _unpacked(path: Path) -> int:
    """The bytes of a text file when it is unpacked, as polars would; 0 where it is not packed.

    Raises:
        InputError: it is packed in a way that cannot be counted here, or damaged.
    """
    with path.open("rb") as file:
        begins = file.peek(4)[:4]
        if begins == _ZSTD:
            raise InputError(f"{path} is packed by zstd; expected a table that is not packed, or by gzip. Unpack it.")
        try:
            if begins.startswith(_GZIP):
                return _length(gzip.open(file))
            return _length_of_zlib(file) if begins.startswith(_ZLIB) else 0
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} cannot be unpacked ({error}); expected a whole file. Pack it anew.") from None


def _length(unpacked: IO[bytes] | gzip.GzipFile) -> int:
    return sum(len(part) for part in iter(lambda: unpacked.read(_PART), b""))


def _length_of_zlib(file: IO[bytes]) -> int:
    unpacking, length, packed = zlib.decompressobj(), 0, file.read(_PART)
    while packed and not unpacking.eof:
        length += len(unpacking.decompress(packed, _PART))
        packed = unpacking.unconsumed_tail or file.read(_PART)
    return length
