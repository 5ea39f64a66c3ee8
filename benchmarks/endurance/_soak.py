"""Hours in minutes: a run that steps, measures, samples and saves as fast as it can, whose memory is looked at all the while.

Looked at, between two steps, after malloc has given back what it does not use (``malloc_trim``):

* resident: what the process holds of the machine's memory, mapped files aside (RssAnon of /proc/self/status).
* allocated: what malloc has given out and not got back (mallinfo2): torch's tensors, and Python's objects in arenas of its own.
* blocks: Python's objects up to 512 bytes (sys.getallocatedblocks).

The first part is warm-up and is left out. The slope of each is the median of the slopes between all pairs of minutes (Theil and Sen), each
minute being the median of its samples; the interval is Sen's, at 95 %.
"""

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from scipy.stats import theilslopes

from throughtime.cli import main as throughtime
from throughtime.training import RunFolder, train

from ._runs import Data, Run

OFTEN = "--eval-every 100 --eval-tokens 2000 --save-every 1 --sample-every 200 --watch-flow 200"
RUN = Run("text book.txt", "--cell gru --hidden 48 --dropout 0.2 --initial random", steps=1, often=OFTEN)
EVERY = 2  # seconds
WARM = 1 / 6  # of the time
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
    samples: list[dict[str, float]] = []
    ended = train(RunFolder(out, endless), console=Console(quiet=True), stop=_sampler(samples, 60 * minutes))
    return {"minutes": minutes, "steps": ended.step, "samples": samples, "slopes": slopes(samples, 60 * minutes * WARM)}


def _sampler(samples: list[dict[str, float]], seconds: float) -> Callable[[], bool]:
    """What training asks after every step whether it is to stop."""
    began = time.monotonic()

    def asked() -> bool:
        now = time.monotonic() - began
        if not samples or now - samples[-1]["seconds"] >= EVERY:
            samples.append({"seconds": now, **held()})
        return now >= seconds

    return asked


def held() -> dict[str, float]:
    """Bytes and objects that the process holds now."""
    LIBC.malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    resident = int(status.split("RssAnon:")[1].split()[0]) * 1024
    given = LIBC.mallinfo2()
    return {"resident": resident, "allocated": given.uordblks + given.hblkhd, "blocks": sys.getallocatedblocks()}


def slopes(samples: list[dict[str, float]], warm: float) -> dict[str, dict[str, float]]:
    """Per hour, of the minutes after the warm-up: resident and allocated in megabytes, and blocks."""
    minutes: dict[int, list[dict[str, float]]] = {}
    for sample in samples:
        if sample["seconds"] >= warm:
            minutes.setdefault(int(sample["seconds"] // 60), []).append(sample)
    hours = [minute / 60 for minute in minutes]
    found = {}
    for name, unit in (("resident", MEGABYTE), ("allocated", MEGABYTE), ("blocks", 1)):
        heights = [statistics.median(sample[name] for sample in some) / unit for some in minutes.values()]
        slope, _, low, high = theilslopes(heights, hours)
        found[name] = {"an_hour": slope, "low": low, "high": high, "at_the_end": heights[-1]}
    return found
