"""A progress bar for long work; without a terminal, a line from time to time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID

from ._console import put

_FIRST, _NEXT = 2.0, 10.0  # seconds to the first line and between lines, without a terminal


@contextmanager
def bar(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function ``show(what, done, total)``, which shows the progress of one piece of work."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}
        speaks_at = time.monotonic() + _FIRST

        def show(what: str, done: int, total: int) -> None:
            nonlocal speaks_at
            if what not in tasks:
                tasks[what] = progress.add_task(escape(what), total=total)
            progress.update(tasks[what], completed=done)
            if not console.is_terminal and done < total and time.monotonic() >= speaks_at:
                put(console, f"{what}: {done / total:.0%}")
                speaks_at = time.monotonic() + _NEXT

        yield show
