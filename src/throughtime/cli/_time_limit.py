"""Work that is given up when its time is over, in the middle of a long call too."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, final


@final
class OutOfTimeError(Exception):
    """The time is over."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError inside after so many seconds, between two instructions of Python.

    The system's alarm is used, which the main thread alone can set, and not every system has: elsewhere nothing is given up.
    """
    if math.isinf(seconds) or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler_before = signal.signal(signal.SIGALRM, _out_of_time)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))  # 0 would be no limit
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler_before)


def _out_of_time(signum: int, frame: FrameType | None) -> NoReturn:
    raise OutOfTimeError
