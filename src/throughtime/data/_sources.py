"""The sources of a text: files, plain or gzip; folders of files; and pipes or the standard input, which can be read only once."""

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from .._errors import InputError
from ._named import perhaps_named

STDIN = Path("-")
_CHUNK = 1 << 20  # bytes read at a time


@contextmanager
def readable(paths: Sequence[Path], aside: Path, progress: Callable[[int, int], None]) -> Iterator[list[Path]]:
    """Files that can be read as often as one likes, in the order of ``paths``: folders opened, pipes copied into ``aside`` meanwhile.

    Raises:
        InputError: nothing is there, or something that is no text: a device, an empty folder.
    """
    copies: list[Path] = []
    try:
        found: list[Path] = []
        for path in paths:
            if _is_pipe(path):
                copies.append(aside / f"pipe{len(copies)}")
                _copy(path, copies[-1], progress)
                found.append(copies[-1])
            else:
                found += _files(path)
        yield found
    finally:
        for copy in copies:
            copy.unlink(missing_ok=True)


def raw_chunks(path: Path) -> Iterator[tuple[bytes, int]]:
    """The bytes of a file, unpacked if it is gzip, and how many of the file's own have been read."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            source = gzip.GzipFile(fileobj=file) if packed else file
            while raw := source.read(_CHUNK):
                yield raw, file.tell()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} cannot be unpacked ({error}); expected whole gzip. Make the file again, or unpack it.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a text file. Check the path and its permissions.") from None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read ({reason}); expected a text file. Check the path.{perhaps_named(path)}") from None


def _is_pipe(path: Path) -> bool:
    return path == STDIN or stat.S_ISFIFO(_mode(path))


def _files(path: Path) -> list[Path]:
    """A file itself; of a folder the files in it and below, in order of name, hidden ones left out."""
    mode = _mode(path)
    if stat.S_ISREG(mode):
        return [path]
    if not stat.S_ISDIR(mode):
        raise InputError(
            f"{path} is a device; expected a file, a folder, a pipe, or - for the standard input. Save the text to a file first."
        )
    inside = sorted(
        Path(folder, name)
        for folder, folders, names in os.walk(path)
        if not _hide(folders)
        for name in names
        if not name.startswith(".") and Path(folder, name).is_file() and Path(folder, name).stat().st_size
    )
    if not inside:
        raise InputError(f"{path} is a folder without a file; expected text files in it. Name another, or the files.")
    return inside


def _hide(folders: list[str]) -> None:
    """``os.walk`` does not go into a folder that is taken from its list."""
    folders[:] = sorted(name for name in folders if not name.startswith("."))


def _copy(path: Path, into: Path, progress: Callable[[int, int], None]) -> None:
    with _opened(path) as source, into.open("wb") as copy:
        while raw := source.read1(_CHUNK):
            copy.write(raw)
            progress(copy.tell(), copy.tell() + 1)  # the total is unknown
    if not into.stat().st_size:
        raise InputError(f"{'the standard input' if path == STDIN else path} is empty; expected text. Send some, or name a file.")


def _opened(path: Path) -> BufferedIOBase:
    if path != STDIN:
        return cast(BufferedIOBase, path.open("rb"))
    if sys.stdin.isatty():
        raise InputError("the standard input is a terminal; expected text from a pipe. Send some: cat book.txt | throughtime train text -")
    return cast(BufferedIOBase, sys.stdin.buffer)
