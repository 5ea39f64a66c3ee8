"""Being asked to stop: Ctrl-C, a polite kill, a terminal that closes."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals that ask for an end go to ``handler`` meanwhile; those that are ignored, as under nohup, stay so."""
    known = [getattr(signal, name) for name in _NAMES if name in signal.Signals.__members__]
    ours = [s for s in known if signal.getsignal(s) is not signal.SIG_IGN] if threading.current_thread() is threading.main_thread() else []
    before = {s: signal.signal(s, handler) for s in ours}
    try:
        yield
    finally:
        for s, handler_before in before.items():
            signal.signal(s, handler_before)


def interrupt(signum: int, frame: FrameType | None) -> None:
    """End here, cleaning up on the way out."""
    raise KeyboardInterrupt
