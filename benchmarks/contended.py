"""No call may suffer from another process: with one core burnt, how long do calls on two threads take, against one thread?

    python benchmarks/contended.py

A burner is bound to one core; calls of every kind run beside it. Printed for each: the median, the 99th percentile and the slowest
of the two-thread calls, in units of the median one-thread call of the same run. The promise is that none passes 3.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from layers import GATES, kernel

SIZES = [(100, 1, 32, 32), (100, 1, 128, 128), (100, 1, 256, 256), (100, 32, 32, 64), (100, 32, 128, 128), (1000, 1, 64, 128)]


def times(call: Callable[[], None], seconds: float) -> list[float]:
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 20:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def main() -> None:
    torch.set_num_threads(1)
    core = max(os.sched_getaffinity(0))
    burner = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"])
    try:
        time.sleep(0.5)
        for cell in GATES:
            for sizes in SIZES:
                one, two = kernel(cell, sizes, 1), kernel(cell, sizes, 2)
                one(), two()
                base = statistics.median(times(one, 0.5))
                found = sorted(times(two, 1.5))
                worst, p99, median = (t / base for t in (found[-1], found[len(found) * 99 // 100], found[len(found) // 2]))
                shares = f"median {median:5.2f}   99 % {p99:5.2f}   slowest {worst:6.2f}   of {len(found)}"
                print(f"{cell:6} {sizes!s:22} {base * 1e6:9.0f} µs   {shares}", flush=True)
    finally:
        burner.kill()


if __name__ == "__main__":
    main()
