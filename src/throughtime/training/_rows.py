"""What a run appends to while it goes on: metrics.jsonl, and the same for TensorBoard. A disk that is full for a while loses no row."""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

from ._files import write_text
from ._unit import BITS


@final
class Rows:
    """A file of JSON, a line a row, each written whole or kept until there is room.

    Args:
        path: the file.
        step: rows after this one, of a run that went further and was killed, are dropped.
        drawn: as of ``read_rows``.
    """

    def __init__(self, path: Path, step: int, drawn: str = BITS.drawn) -> None:
        write_text(path, "".join(json.dumps(row) + "\n" for row in read_rows(path, drawn) if row["step"] <= step))
        self._path, self._file = path, os.open(path, os.O_WRONLY | os.O_APPEND)
        self._waiting, self._size = b"", os.fstat(self._file).st_size

    def add(self, row: Mapping[str, Any]) -> None:
        """One row more; what cannot be written waits."""
        self._waiting += json.dumps(row).encode() + b"\n"
        with suppress(OSError):
            self._pour()

    def flush(self) -> None:
        """Everything so far to the disk.

        Raises:
            OSError: there is no room.
        """
        self._pour()
        os.fsync(self._file)

    def close(self) -> None:
        """No row comes any more."""
        with suppress(OSError):
            self._pour()
        os.close(self._file)

    def _pour(self) -> None:
        """Write what waits; a part of it is taken back."""
        try:
            if os.write(self._file, self._waiting) < len(self._waiting):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._waiting, self._size = b"", self._size + len(self._waiting)


def read_rows(path: Path, drawn: str = BITS.drawn) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, up to a line that was cut short; ``drawn`` is the number of a loss that its rows have."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    return [row for row in rows if isinstance(row, dict) and _is_ours(row, drawn)]


def _is_ours(row: dict[str, Any], drawn: str) -> bool:
    """Whether a row has the numbers that the picture shows, and beside its kind and what was not finite first numbers alone.

    Others were written by something else.
    """
    kind, profile = str(row.get("kind")), row.get("profile", [None])
    shown = {"train": (drawn, "gradient_norm"), "valid": (drawn,)}.get(kind, ())
    numbers = [value for name, value in row.items() if name not in ("kind", "profile", "first")]
    return (
        isinstance(row.get("step"), int)
        and isinstance(row.get("first", ""), str)
        and isinstance(profile, list)
        and len(profile) > 0
        and all(x is None or _is_number(x) for x in (*numbers, *profile))
        and all(row.get(name) is not None for name in shown)
        and (kind != "flow" or row.keys() >= {"profile", "horizon"})
    )


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """TensorBoard writes in a thread of its own, which dies with a traceback where it cannot. ``Events`` says so in a sentence."""
    usual = threading.excepthook

    def hook(died: threading.ExceptHookArgs) -> None:
        if not (issubclass(died.exc_type, OSError) and type(died.thread).__module__.startswith("tensorboard.")):
            usual(died)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual


@final
class Events:
    """TensorBoard's log, a view of metrics.jsonl: where it cannot be written, it is given up and the run goes on.

    Args:
        folder: where the log is.
        step: what was logged after this step is hidden.
        tell: called with a sentence when the log is given up.
    """

    def __init__(self, folder: Path, step: int, tell: Callable[[str], None]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a second to import: only where it is used

        self._tell, self._writer = tell, SummaryWriter(folder, purge_step=step + 1 if step else None)

    def scalar(self, name: str, value: float, step: int) -> None:
        """A number."""
        self._do(lambda writer: writer.add_scalar(name, value, step))

    def text(self, name: str, text: str, step: int | None = None) -> None:
        """A text."""
        self._do(lambda writer: writer.add_text(name, text, step))

    def flush(self) -> None:
        """Everything so far to the disk."""
        self._do(lambda writer: writer.flush())

    def close(self) -> None:
        """Nothing comes any more."""
        self._do(lambda writer: writer.close())

    def _do(self, what: Callable[[Any], object]) -> None:
        if self._writer is None:
            return
        try:
            what(self._writer)
        except OSError as error:  # that of TensorBoard's own thread too, later
            self._writer = None
            self._tell(f"TensorBoard's events cannot be written ({error.strerror or error}) and are left out from here on")
