"""Where a long work writes to: its reader may leave, the disk behind it may be full, and the work goes on."""

import os
import sys
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any, TextIO, cast, final

from rich.console import Console

from ..training import check_new_file


def new_picture(asked: Path | None, stem: str) -> Path:
    """The file asked for, which must be new; else the first of stem.png, stem-2.png, ... that is free here.

    Raises:
        InputError: the file asked for is there already, or would lie in no folder.
    """
    if asked is not None:
        check_new_file(asked)
        return asked
    names = (Path(f"{stem}{number}.png") for number in chain([""], (f"-{i}" for i in count(2))))
    return next(path for path in names if not path.exists())


def lasting_console(*, quiet: bool = False) -> Console:
    """The standard output, for work that must not end because nobody reads it any more."""
    return Console(file=cast(TextIO, Lasting(sys.stdout)), quiet=quiet)


@final
class Lasting:
    """A stream that drops what cannot be written, and says so once on the standard error."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._lost = stream, False

    def write(self, text: str) -> int:
        """As a file's."""
        if not self._lost:
            try:
                return self._stream.write(text)
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """As a file's."""
        if not self._lost:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError | ValueError) -> None:
        """What is still in the stream's buffer goes nowhere, and the interpreter's last flush does not stumble over it."""
        self._lost = True
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        with suppress(OSError, ValueError):
            reason = error.strerror if isinstance(error, OSError) else error
            sys.stderr.write(f"throughtime: nobody reads what is printed here any more ({reason}); the work goes on.\n")
            sys.stderr.flush()
