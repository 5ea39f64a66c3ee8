"""Hours in minutes: a run that steps, measures, samples and saves as fast as it can, whose memory is looked at all the while.

Looked at, between two steps, after malloc has given back what it does not use (``malloc_trim``), and with the interpreter's lists of free
tuples full:

* resident: what the process holds of the machine's memory, mapped files aside (RssAnon of /proc/self/status).
* allocated: what malloc has given out and not got back (mallinfo2): torch's tensors, and Python's objects in arenas of its own.
* blocks: Python's objects up to 512 bytes (sys.getallocatedblocks).

CPython keeps up to 2,000 tuples of every size below 21 that nobody uses any more, for the next who wants one (Objects/tupleobject.c). A
tuple that was made longer and then cut (``tuple(generator)``, numpy's, torch's) is taken from one list and goes to another, so that some
lists grow by one with every validation, look or save, for hours, to 1.2 MB in all. They are filled before each sample, since this end is
near and says nothing of what a longer run would lose; nothing that is in use, and no cycle that waits for the collector, is touched by it.

The samples go to an array that is made before. The first part is warm-up and is left out: a sixth of the time, and the time in which
training asked 20,000 times whether to stop (after a step, and at each window of a validation), after which the lists of fixed length are
full (rich's progress bar keeps a thousand rows). The slope of each is the median of the slopes between
all pairs of minutes (Theil and Sen), each minute being the median of its samples; the interval is Sen's, at 95 %.
"""

import ctypes
import statistics
import sys
import time
from array import array
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from scipy.stats import theilslopes

from throughtime.cli import main as throughtime
from throughtime.training import RunFolder, train

from ._runs import Data, Run

OFTEN = "--eval-every 100 --eval-tokens 1000 --save-every 2s --sample-every 200 --watch-flow 200"
RUN = Run("text book.txt", "--cell gru --hidden 16 --dropout 0.2 --initial random", steps=1, often=OFTEN)
EVERY = 2  # seconds
WARM_TIME, WARM_ASKED = 1 / 6, 20_000
COLUMNS = ("seconds", "asked", "resident", "allocated", "blocks")
MEGABYTE = 1e6


class Mallinfo(ctypes.Structure):
    """glibc's mallinfo2."""

    _fields_ = [(n, ctypes.c_size_t) for n in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]


LIBC = ctypes.CDLL(None)
LIBC.mallinfo2.restype = Mallinfo


def soak(data: Data, minutes: float) -> dict[str, object]:
    """Train for so long, and tell the slopes."""
    out = data.place / "soak"
    if throughtime(RUN.words(out)):
        raise SystemExit("the run did not begin")
    folder = RunFolder.open(out)
    endless = replace(folder.config, loop=replace(folder.config.loop, steps=10**9))
    samples = Samples(60 * minutes)
    ended = train(RunFolder(out, endless), console=Console(quiet=True), stop=samples.taken_after_a_step)
    warm = max(60 * minutes * WARM_TIME, *(row[0] for row in samples.rows() if row[1] < WARM_ASKED))
    columns = dict(zip(COLUMNS, zip(*samples.rows(), strict=True), strict=True))
    return {"minutes": minutes, "warm-up": warm, "steps": ended.step, "samples": columns, "slopes": slopes(samples.rows(), warm)}


class Samples:
    """What is held, every two seconds; the room for it is taken at the beginning."""

    def __init__(self, seconds: float) -> None:
        self._kept = array("d", bytes(8 * len(COLUMNS) * (int(seconds / EVERY) + 2)))
        self._end, self._began, self._count, self._asked, self._next = seconds, time.monotonic(), 0, 0, 0.0

    def taken_after_a_step(self) -> bool:
        """Whether training is to stop."""
        now, width = time.monotonic() - self._began, len(COLUMNS)
        self._asked += 1
        if now >= self._next and width * (self._count + 1) <= len(self._kept):
            for k, number in enumerate((now, self._asked, *held())):
                self._kept[width * self._count + k] = number
            self._count, self._next = self._count + 1, now + EVERY
        return now >= self._end

    def rows(self) -> list[tuple[float, ...]]:
        width = len(COLUMNS)
        return [tuple(self._kept[width * i : width * (i + 1)]) for i in range(self._count)]


def held() -> tuple[float, float, float]:
    """Resident and allocated bytes, and blocks."""
    fill_free_tuples()
    LIBC.malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    resident = int(status.split("RssAnon:")[1].split()[0]) * 1024
    given = LIBC.mallinfo2()
    return resident, given.uordblks + given.hblkhd, sys.getallocatedblocks()


def fill_free_tuples() -> None:
    """As many tuples of each size as the interpreter keeps, all at once, and none of them used any more."""
    every = [tuple([None] * n) for n in range(1, 21) for _ in range(2000)]
    del every


def slopes(rows: list[tuple[float, ...]], warm: float) -> dict[str, dict[str, float]]:
    """Per hour, of the minutes after the warm-up: resident and allocated in megabytes, and blocks."""
    minutes: dict[int, list[tuple[float, ...]]] = {}
    for row in rows:
        if row[0] >= warm:
            minutes.setdefault(int(row[0] // 60), []).append(row)
    hours, found = [minute / 60 for minute in minutes], {}
    for k, unit in ((2, MEGABYTE), (3, MEGABYTE), (4, 1)):
        heights = [statistics.median(row[k] for row in some) / unit for some in minutes.values()]
        slope, _, low, high = theilslopes(heights, hours)
        found[COLUMNS[k]] = {"an_hour": slope, "low": low, "high": high, "at_the_end": heights[-1]}
    return found
