"""Being asked to stop: Ctrl-C, a polite kill, a terminal that closes. The answer is a word within a second, at any moment.

Python runs a signal's handler between two of its own instructions, so a long call of a library keeps it waiting. The system's part of the
handler does not wait: it writes to a pipe, where a second thread reads. If the main thread has not ended the program soon after, that
thread does: it removes what must not stay, lets a training run save the state before the step that is still running, and says the word.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from types import FrameType
from typing import NoReturn, final

from .._processes import rank

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_GRACE = 0.4  # seconds that the main thread has to end by itself
_LAST = 2.0  # seconds that it has to finish what it has begun to say


class _Manner(Enum):
    AT_ONCE = 1  # nothing has begun: the handler ends the process, as an import may swallow an exception
    ORDERLY = 2  # KeyboardInterrupt, cleaning up on the way out
    POLITE = 3  # a flag that the training loop looks at after every step
    PATIENT = 4  # the same, and nobody ends the process before the loop does
    OVER = 5  # the work is done: it is too late


@final
class Interruption:
    """What a request to stop does now."""

    def __init__(self) -> None:
        self._manner, self._times = _Manner.AT_ONCE, 0
        self._cleanups: list[Callable[[], object]] = []
        self._last_word: Callable[[], str] = lambda: "interrupted"
        self._speaking = threading.Lock()
        self._ended = threading.Event()

    def asked(self) -> bool:
        """Whether somebody has asked for a stop."""
        return self._times > 0

    def orderly(self) -> None:
        """The imports are done: from now on KeyboardInterrupt is raised."""
        self._manner = _Manner.ORDERLY

    def over(self) -> None:
        """The work is done: from now on nothing is interrupted."""
        self._manner = _Manner.OVER

    @contextmanager
    def answering(self, word: Callable[[], str]) -> Iterator[None]:
        """Whoever interrupts what is done inside is told this; it says what has been kept."""
        before, self._last_word = self._last_word, word
        yield
        self._last_word = before  # not after an exception: the word is still to be said

    @contextmanager
    def polite(self, rescue: Callable[[], str]) -> Iterator[Callable[[], bool]]:
        """Let the work look for itself whether to stop.

        Args:
            rescue: called in the other thread where the work does not; saves what can be saved, and returns what to say.
        """
        with self.answering(rescue):
            before, self._manner = self._manner, _Manner.POLITE
            try:
                yield self.asked
            finally:
                self._manner = before

    @contextmanager
    def patient(self) -> Iterator[Callable[[], bool]]:
        """Let the work look for itself, however long that takes: other processes must stop at the same step."""
        before, self._manner = self._manner, _Manner.PATIENT
        try:
            yield self.asked
        finally:
            self._manner = before

    @contextmanager
    def cleaned_up(self, clean: Callable[[], object]) -> Iterator[None]:
        """``clean`` is called if the process ends inside, however it does."""
        self._cleanups.append(clean)
        try:
            yield
        except BaseException:
            clean()
            raise
        finally:
            self._cleanups.remove(clean)

    def claim(self) -> None:
        """The caller is the one who says the last word; never returns if another thread is saying it."""
        self._speaking.acquire()

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """The main thread's part."""
        self._times += 1
        if self._manner is _Manner.AT_ONCE:
            _leave("interrupted; nothing had begun")
        if self._manner is _Manner.ORDERLY and self._times == 1:  # a second one would interrupt the last word
            raise KeyboardInterrupt

    def watch(self, pipe: int) -> None:
        """The other thread's part: end the process if the main thread does not."""
        while (byte := os.read(pipe, 1)) and byte[0] not in _signals():
            pass  # another signal of the process
        if not byte:
            return
        _wait_for_another(pipe, self._ended)
        if self._ended.is_set() or self._manner is _Manner.PATIENT:
            return
        if not self._speaking.acquire(blocking=False):
            if not self._ended.wait(_LAST):
                os._exit(INTERRUPTED)
            return
        for clean in reversed(self._cleanups):
            with suppress(Exception):
                clean()
        _leave(self.last_word())

    def end(self) -> None:
        """The program ends by itself."""
        self._ended.set()

    def last_word(self) -> str:
        """What has become of the work."""
        try:
            return self._last_word()
        except Exception as error:  # a full disk, a weight that is not finite
            return f"interrupted; the last state could not be saved ({error}), the one saved before it stands"


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Handle requests to stop meanwhile; those that are ignored, as under nohup, stay so."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    ours = [s for s in _signals() if signal.getsignal(s) is not signal.SIG_IGN]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {s: signal.signal(s, interruption.handle) for s in ours}
    fd_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=interruption.watch, args=(reader,), name="throughtime interruption", daemon=True)
    watcher.start()
    try:
        yield interruption
    finally:
        interruption.end()
        signal.set_wakeup_fd(fd_before)
        for s, handler_before in before.items():
            signal.signal(s, handler_before)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _signals() -> list[int]:
    return [int(getattr(signal, name)) for name in _NAMES if name in signal.Signals.__members__]


def _wait_for_another(pipe: int, ended: threading.Event) -> None:
    """Until the grace is over, or somebody asks again."""
    import select  # not on every system for a pipe: then the whole grace is waited

    try:
        select.select([pipe], [], [], _GRACE)
    except OSError:
        ended.wait(_GRACE)


def _leave(word: str) -> NoReturn:
    """Say it, and end the process without another step."""
    with suppress(Exception):
        word = "" if rank() else word  # of several processes the first speaks
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K\x1b[?25h")  # a bar may stand there, and have hidden the cursor
        sys.stderr.write(f"{word}\n" if word else "")
        sys.stderr.flush()
    end_process(INTERRUPTED)


def end_process(code: int) -> NoReturn:
    """At once, with what has been printed."""
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(code)
