"""SIGKILL at random moments, and the way on, until the run has finished.

The process that is killed is forked from this one, which has imported everything already: it trains from its first millisecond on, so the
moments fall upon training, saving and resuming, and not upon the import of torch.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from throughtime import InputError
from throughtime.cli import main as throughtime
from throughtime.training import RunFolder, load
from throughtime.training._files import read_tensors

from ._runs import Data, Run, differing


def kills(run: Run, data: Data, whole: Path, wanted: int, rng: random.Random) -> dict[str, object]:
    """Disturb runs until ``wanted`` kills have been made; the undisturbed one lies at ``whole`` afterwards."""
    seconds = undisturbed(run, data, whole)
    made = unreadable = finished = 0
    different: list[str] = []
    while made < wanted:
        out = data.place / "cut"
        shutil.rmtree(out, ignore_errors=True)
        more, bad = disturbed(run, data, out, seconds, rng)
        made, unreadable, finished = made + more, unreadable + bad, finished + 1
        different += differing(whole, out)
    return {"kills": made, "finished": finished, "unreadable": unreadable, "differing": different}


def undisturbed(run: Run, data: Data, out: Path) -> float:
    """The seconds that it took."""
    started, pid = time.monotonic(), begin(run.words(out), data.place)
    _check(os.waitpid(pid, 0)[1], data.place)
    return time.monotonic() - started


def disturbed(run: Run, data: Data, out: Path, seconds: float, rng: random.Random) -> tuple[int, int]:
    """Kill and resume until it has finished: kills, and folders that could not be opened after one.

    A moment is drawn evenly from the time that a whole run takes, and from more where a busy machine lets a run get nowhere.
    """
    made = unreadable = 0
    longest, words = seconds, run.words(out)
    while True:
        pid = begin(words, data.place)
        if ended(pid, rng.uniform(0, longest), data.place):
            return made, unreadable
        made, longest = made + 1, longest * 1.1
        if out.exists():
            unreadable += not can_be_opened(out)
            words = ["train", run.data.split()[0], "--resume", "--out", str(out)]


def ended(pid: int, after: float, place: Path) -> bool:
    """Whether a process came to its end before it was killed."""
    until = time.monotonic() + after
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            _check(status, place)
            return True
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def begin(words: Sequence[str], place: Path) -> int:
    """``throughtime WORDS`` in a new process; its number."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 70
    try:
        os.chdir(place)
        said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(said, number)
        code = throughtime(words)
        sys.stdout.flush()
    finally:
        os._exit(code)


def _check(status: int, place: Path) -> None:
    if status:
        raise SystemExit(f"a training ended with {os.waitstatus_to_exitcode(status)}: {(place / 'said').read_text()}")


def can_be_opened(out: Path) -> bool:
    """Whether the run can be loaded, and what is saved of its state is whole."""
    try:
        folder = RunFolder.open(out)
        load(out)
        states = [state for state in (folder.state, folder.previous_state) if state.exists()]
        for state in states:  # a kill between two moves leaves the second alone
            read_tensors(state)
        return bool(states)
    except InputError as error:
        print(error, file=sys.stderr)
        return False
