"""Ctrl-C, a polite kill, a kill: in processes of their own, as a person meets them."""

import math
import os
import pty
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from throughtime.cli import main

TEXT = (
    "".join(f"the {a} {b} sat on the {c}.\n" for a in ("big", "old", "red") for b in ("cat", "dog", "owl") for c in ("mat", "log", "box"))
    * 4
)
FLAGS = [
    *("--hidden", "6", "--batch-size", "4", "--bptt", "8", "--threads", "1", "--save-every", "0s"),
    *("--dropout", "0.2", "--initial", "random", "--eval-every", "50"),
]
RESUME = ["train", "text", "--out", "run", "--resume"]


_started: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def _nothing_is_left_running():
    yield
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def start(arguments: Sequence[str], folder: Path, files: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    for name, text in {"book.txt": TEXT, **(files or {})}.items():
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "throughtime", *arguments]
    _started.append(subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return _started[-1]


def finish(arguments: Sequence[str], folder: Path) -> int:
    """What need not be interrupted runs here, which saves the imports."""
    (folder / "book.txt").write_text(TEXT)
    torch.set_default_dtype(torch.float32)
    with chdir(folder):
        return main(arguments)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


_AT_MOST = 1.0  # seconds from the signal to the end


def interrupted(process: subprocess.Popen[str], number: int = signal.SIGINT, *, may_have_ended: bool = False) -> tuple[str, str]:
    """What the program says when it is asked to stop; it must end by status 130, without a traceback, and within a second.

    On a busy machine a second of the clock says nothing. The time of the processor is counted, which the program, with its one thread,
    spends after the signal; whoever goes on with the work spends as much as the clock, and who waits for nothing runs into the timeout.
    """
    before, others = processor_seconds(process), resource.getrusage(resource.RUSAGE_CHILDREN)
    process.send_signal(number)
    output, error = process.communicate(timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - others.ru_utime - others.ru_stime - before
    assert spent < _AT_MOST, (spent, output[-500:], error)
    if not may_have_ended or process.returncode != 0:
        assert process.returncode == 130, error
        assert "interrupted" in output + error
    assert "Traceback" not in output + error
    assert "Exception" not in output + error
    return output, error


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_asked_to_stop_while_training(tmp_path, number):
    process = start(["train", "text", "book.txt", *FLAGS, "--steps", "1000000", "--out", "run"], tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    time.sleep(0.5)
    output, error = interrupted(process, number)
    assert "the whole state is saved in run. Go on with:\n  throughtime train text --out run --resume" in output + error
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_asked_to_stop_in_a_step_that_takes_minutes(tmp_path):
    """The step changes nothing before its end: the state before it is saved."""
    flags = ["--hidden", "128", "--batch-size", "4", "--bptt", "64", "--threads", "1", "--gradient", "rtrl", "--steps", "9", "--out", "run"]
    process = start(["train", "text", "book.txt", *flags], tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    time.sleep(0.5)
    output, error = interrupted(process)
    assert "a step with --gradient rtrl takes about" in output
    assert "interrupted after step 0; the whole state is saved in run" in error
    assert load_file(tmp_path / "run" / "state.safetensors")


@pytest.mark.parametrize("moment", [0.0, 0.3, pytest.param(1.0, marks=pytest.mark.slow)])
def test_asked_to_stop_while_it_starts(moment, tmp_path):
    """From the first sign of life on: before that the interpreter itself starts."""
    here, there = pty.openpty()
    (tmp_path / "book.txt").write_text(TEXT)
    command = [sys.executable, "-m", "throughtime", "train", "text", "book.txt", *FLAGS, "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=there)
    os.close(there)
    seen = os.read(here, 100)
    assert seen.startswith(b"loading")
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=600)
    with suppress(OSError):  # the other side is closed
        while part := os.read(here, 1000):
            seen += part
    os.close(here)
    assert process.returncode == 130, seen
    assert b"interrupted" in seen
    assert b"Traceback" not in seen
    assert [path.name for path in tmp_path.iterdir()] == ["book.txt"]


@pytest.mark.slow
def test_asked_to_stop_while_subwords_are_learned(tmp_path):
    letters = random.Random(0).choices("abcdefghijklmnopqrstuvwxyz ", k=3_000_000)
    process = start(["train", "text", "letters.txt", "--level", "bpe", "--out", "run"], tmp_path, {"letters.txt": "".join(letters)})
    wait_for(tmp_path / "run.preparing" / "tokens", process)
    time.sleep(1.0)
    interrupted(process)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book.txt", "letters.txt"]


def processor_seconds(process: subprocess.Popen[str]) -> float:
    """What a process has spent so far; where the system does not say, nothing of it may count."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.inf
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_it_hears(process: subprocess.Popen[str]) -> None:
    """From when on the program's own handler answers: the interpreter starts without one for SIGTERM."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        time.sleep(1.0)
    while process.poll() is None and status.exists():
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


def how_long(arguments: Sequence[str], folder: Path) -> float:
    """Seconds until a verb ends by itself, and not more than are worth waiting for."""
    process, began = start(arguments, folder, {"long.txt": TEXT * 1000}), time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=8.0)
    process.kill()
    process.communicate()
    remove(folder, "new*")
    return time.monotonic() - began


def remove(folder: Path, names: str) -> None:
    """What a verb may have made."""
    for path in folder.glob(names):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


VERBS = {
    "train": ["train", "text", "book.txt", *FLAGS, "--steps", "1000000", "--out", "new"],
    "resume": [*RESUME, "--steps", "1000000"],
    "evaluate": ["evaluate", "run", "--data", "long.txt", "--threads", "1"],
    "sample": ["sample", "run", "--length", "1000000", "--threads", "1"],
    "export": ["export", "run", "--to", "new.onnx"],
    "flow": ["flow", "run", "--steps", "200", "--streams", "64", "--threads", "1", "--html", "new.html"],
    "compare-gradients": ["compare-gradients", "run", "--length", "500", "--batch-size", "4", "--threads", "1"],
    "runs": ["runs", "."],
    "demo": ["demo", "--hidden", "8", "--out", "new"],
    "info": ["info"],
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_asked_to_stop_at_any_moment(verb, tmp_path):
    """Thirty times, from the moment when the program hears signals; whatever was there before can be gone on with."""
    assert finish(["train", "text", "book.txt", *FLAGS, "--steps", "50", "--out", "run"], tmp_path) == 0
    moments = random.Random(verb)
    lasts = how_long(VERBS[verb], tmp_path)
    for _ in range(30):
        process = start(VERBS[verb], tmp_path, {"long.txt": TEXT * 1000})
        wait_until_it_hears(process)
        time.sleep(moments.random() * lasts)
        if process.poll() is None:
            interrupted(process, may_have_ended=True)
        assert not list(tmp_path.glob("*.preparing"))
        assert not list(tmp_path.glob(".*"))
        remove(tmp_path, "new*")
    assert finish(["evaluate", "run"], tmp_path) == 0
    assert finish([*RESUME, "--steps", "1000"], tmp_path) == 0


@pytest.mark.slow  # tests/training/test_resume.py resumes to the same bits within one process
def test_killed_again_and_again_to_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    assert finish(["train", "text", "book.txt", *FLAGS, "--steps", "120", "--out", "run"], whole) == 0
    process = start(["train", "text", "book.txt", *FLAGS, "--steps", "120", "--out", "run"], killed)
    for patience in (0.05,):
        wait_for(killed / "run" / "metrics.jsonl", process)
        time.sleep(patience)
        process.kill()
        process.communicate()
        process = start(RESUME, killed)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    for name in ("model", "state"):
        one, other = (load_file(folder / "run" / f"{name}.safetensors") for folder in (whole, killed))
        assert all(torch.equal(one[key], other[key]) for key in one.keys() | other.keys())


@pytest.mark.slow
def test_the_reader_of_a_sample_leaves(tmp_path):
    assert finish(["train", "text", "book.txt", *FLAGS, "--steps", "2", "--out", "run"], tmp_path) == 0
    process = start(["sample", "run", "--length", "100000"], tmp_path)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=600) == 0
    process.stderr.close()


@pytest.mark.slow  # tests/training/test_rescue.py has the lock within one process
def test_a_run_that_is_being_trained_is_not_trained_twice(tmp_path, capsys):
    process = start(["train", "text", "book.txt", *FLAGS, "--steps", "1000000", "--out", "run"], tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    try:
        for words in (["--resume"], ["book.txt", *FLAGS, "--overwrite"]):
            assert finish(["train", "text", *words, "--out", "run"], tmp_path) == 2
            error = capsys.readouterr().err
            assert f"run is in use by process {process.pid}; expected one process a run. Wait until it ends, or name another run." in error
    finally:
        process.kill()
        process.communicate()
    assert finish([*RESUME, "--steps", "1"], tmp_path) == 0  # the lock of a killed process means nothing
    assert sorted(path.name for path in tmp_path.iterdir()) == ["book.txt", "run"]
