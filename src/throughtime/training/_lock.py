"""One process a run: a lock that the system drops when the process ends, however it ends."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._check import InputError

try:
    import fcntl
except ModuleNotFoundError:  # a system without such locks: nobody is kept out
    fcntl = None

LOCK = "lock"  # a file in the run folder; it stays, and means nothing by itself


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else holds the folder meanwhile.

    Raises:
        InputError: another process does.
    """
    if fcntl is None:
        yield
        return
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 20, 0).decode(errors="replace").strip() or "?"
            raise InputError(
                f"{folder} is in use by process {holder}; expected one process a run. Wait until it ends, or name another run."
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)  # which drops the lock


def discard(folder: Path) -> None:
    """Remove a folder and all that is in it, as far as it can be."""
    shutil.rmtree(folder, ignore_errors=True)
