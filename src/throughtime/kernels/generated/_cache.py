"""Compiled cells in the user's cache folder, each a file that is whole or absent.

A file is what the compiler wrote and 64 bytes more: the sum (SHA-256) over the compiler's bytes and the file's key. It is loaded only if
the sum is right, so that a file that is cut off, changed or meant for another key is never run, and made anew. The folder belongs to the
user alone; a folder that others may write to is not used. A file ``.step`` is what was written for the compiler, kept in the same way, so
that a step need not be traced again.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..._numbers import counted
from ..._user_cache import user_cache

MOST_BYTES = 256 * 2**20
_SUM = 64  # bytes of a sum in hexadecimal


def folder() -> Path:
    """Where compiled cells are kept: ``THROUGHTIME_CACHE``, or throughtime in the user's cache folder."""
    if given := os.environ.get("THROUGHTIME_CACHE"):
        return Path(given).expanduser()
    return user_cache()


def entries() -> list[Path]:
    """Every compiled cell."""
    with suppress(OSError):
        return [p for p in folder().iterdir() if p.suffix == ".cell"]
    return []


def size() -> int:
    """Bytes of all compiled cells."""
    total = 0
    for path in entries():
        with suppress(OSError):
            total += path.stat().st_size
    return total


def cache_about() -> str:
    """Where compiled cells are kept, how many and how large."""
    return f"{folder()}: {counted(len(entries()), 'compiled cell')}, {size() / 2**20:.1f} MB of at most {MOST_BYTES // 2**20}"


def clear_cache() -> int:
    """Remove every compiled cell, and what killed compilers have left. Returns how many cells there were."""
    found = entries()
    with suppress(OSError):
        found_and_left = [p for p in folder().iterdir() if p.suffix in (".cell", ".step", ".part")]
        for path in found_and_left:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return len(found)


def find(key: str) -> Path | None:
    """The compiled cell of a key, if it is there and whole."""
    path = folder() / f"{key}.cell"
    return None if _content(path, key) is None else path


def read(key: str) -> bytes | None:
    """What ``keep`` kept for a key, if it is there and whole."""
    return _content(folder() / f"{key}.step", key)


def keep(key: str, content: bytes) -> None:
    """Keep some bytes for ``read``, or not where the folder cannot be used."""
    with suppress(OSError):
        where = _private_folder()
        with tempfile.TemporaryDirectory(prefix="keeping.", suffix=".part", dir=where) as aside:
            path = Path(aside) / key
            path.write_bytes(content + _sum(key, content))
            os.replace(path, where / f"{key}.step")


def _content(path: Path, key: str) -> bytes | None:
    """A file without its sum; None if it is not there or not whole."""
    try:
        if _others_may_write(folder()):
            return None
        whole = path.read_bytes()
        content = whole[:-_SUM]
        if not content or whole[-_SUM:] != _sum(key, content):
            return None
        with suppress(OSError):
            os.utime(path)  # used now: the oldest go first
    except OSError:
        return None
    return content


@contextmanager
def made(key: str, make: Callable[[Path], None], say: Callable[[str], None]) -> Iterator[Path]:
    """The file of a key, made by ``make`` beside the cache and put in its place in one move. Where the folder cannot be written, or is
    full, one that lasts as long as the context."""
    with tempfile.TemporaryDirectory() as aside:
        path = Path(aside) / f"{key}.so"
        make(path)
        try:
            found = _put(path.read_bytes(), key)
        except OSError as error:
            say(f"the cache folder {folder()} cannot be used ({error.strerror or error}), so the cell is compiled for this process alone")
            found = path
        yield found


def _put(content: bytes, key: str) -> Path:
    """A file of the cache, on the disk before it has its name."""
    where = _private_folder()
    with tempfile.TemporaryDirectory(prefix="compiling.", suffix=".part", dir=where) as aside:
        path, final = Path(aside) / key, where / f"{key}.cell"
        with path.open("wb") as file:
            file.write(content + _sum(key, content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(path, final)
    _trim(where, keep=final)
    return final


def _sum(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).hexdigest().encode()


def _private_folder() -> Path:
    where = folder()
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _others_may_write(where):
        raise PermissionError(13, "others may write to it")
    return where


def _others_may_write(where: Path) -> bool:
    about = where.stat()
    return about.st_uid != os.getuid() or bool(about.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _trim(where: Path, keep: Path) -> None:
    """Remove the cells that were not used for longest, until the rest fits."""
    by_age = []
    for path in (*where.glob("*.cell"), *where.glob("*.step")):
        with suppress(OSError):
            about = path.stat()
            by_age.append((about.st_mtime, about.st_size, path))
    total = sum(bytes_ for _, bytes_, _ in by_age)
    for _, bytes_, path in sorted(by_age):
        if total <= MOST_BYTES:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            total -= bytes_
