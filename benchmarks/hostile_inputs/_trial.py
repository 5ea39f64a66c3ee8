"""One call of a verb in a forked process of its own, and what is to be thought of how it ended."""

import faulthandler
import os
import re
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from throughtime.cli import main as throughtime

SECONDS = 10  # of the processor: other programs on the machine do not count
PATIENCE = 200  # seconds that may go by
MEMORY = 4 * 2**30  # of address space, beyond what the libraries take
NOBODY = 65534
UNMADE = 71  # status where the example itself could not be made
OURS = {"a", "home", "said", "words"}  # what is in the folder of a trial

Prepare = Callable[[Path], list[str]]


@dataclass(frozen=True)
class Trial:
    """A process that has begun.

    Attributes:
        number: of the example.
        root: its folder; the example lies deep in it, and nothing else is to be there afterwards.
    """

    number: int
    root: Path


@dataclass(frozen=True)
class Judgement:
    """What came of an example: "done" and "sentence" are good."""

    number: int
    what: str
    words: str
    said: str

    @property
    def good(self) -> bool:
        return self.what in ("done", "sentence")


def begin(number: int, root: Path, prepare: Prepare) -> tuple[int, Trial]:
    """Prepare an example in a folder under ``root``, and call its words there, in a process that may not do much; its number."""
    place = root / "a" / "b" / "c"
    (root / "home").mkdir(parents=True)
    place.parent.mkdir(parents=True)
    for folder in (root, root / "home", root / "a", place.parent):
        folder.chmod(0o777)
    sys.stdout.flush()
    if (pid := os.fork()) == 0:
        _end_with(lambda: _in_child(root, place, prepare))
    return pid, Trial(number, root)


def _end_with(work: Callable[[], int]) -> NoReturn:
    code = 70
    try:
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 70
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _in_child(root: Path, place: Path, prepare: Prepare) -> int:
    _confine(root)
    try:
        words = prepare(place)
    except Exception:
        traceback.print_exc()
        return UNMADE
    (root / "words").write_text(repr(words))
    os.chdir(place)
    return throughtime(words)


def _confine(root: Path) -> None:
    """What is said goes to a file; memory and time have limits; root gives up its rights."""
    file = os.open(root / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for number in (1, 2):
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.enable()
    os.environ |= {"HOME": str(root / "home"), "THROUGHTIME_CACHE": str(root / "home" / "cache"), "COLUMNS": "200"}
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY, own + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)


def judged(trial: Trial, status: int) -> Judgement:
    """What came of a process that has ended; its folder is removed."""
    said = (trial.root / "said").read_text(errors="replace") if (trial.root / "said").exists() else ""
    words = (trial.root / "words").read_text() if (trial.root / "words").exists() else ""
    what = _signal(-status) if status < 0 else _escaped(trial.root) or _outcome(status, said)
    shutil.rmtree(trial.root)
    return Judgement(trial.number, what, words, said)


def _signal(number: int) -> str:
    return "hang" if number in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL) else f"crash ({signal.Signals(number).name})"


def _escaped(root: Path) -> str | None:
    """Something was written outside of the example's folder."""
    beside = [*({p.name for p in root.iterdir()} - OURS), *({p.name for p in (root / "a").iterdir()} - {"b"})]
    beside += {p.name for p in (root / "a" / "b").iterdir()} - {"c"}
    return f"escaped: {beside}" if beside else None


def _outcome(code: int, said: str) -> str:
    if code == UNMADE:
        return "unmade"
    if "Traceback" in said:
        return "traceback"
    if "not enough memory" in said:  # a size was believed before it was checked
        return "memory"
    if code == 1 and re.search("guess|diverge", said):  # trained to nothing
        return "done"
    if code == 2:
        return "sentence" if said.strip() else "silence"
    return "done" if code == 0 else f"status {code}"
