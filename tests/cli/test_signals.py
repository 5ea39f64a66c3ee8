"""Ctrl-C, a polite kill, a kill: in processes of their own, as a person meets them."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TEXT = (
    "".join(f"the {a} {b} sat on the {c}.\n" for a in ("big", "old", "red") for b in ("cat", "dog", "owl") for c in ("mat", "log", "box"))
    * 4
)
FLAGS = [
    *("--hidden", "6", "--batch-size", "4", "--bptt", "8", "--threads", "1", "--save-every", "0"),
    *("--dropout", "0.2", "--initial", "random", "--eval-every", "50"),
]
RESUME = ["train", "text", "--out", "run", "--resume"]


def start(arguments: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    (folder / "book.txt").write_text(TEXT)
    command = [sys.executable, "-m", "throughtime", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(arguments: Sequence[str], folder: Path) -> int:
    process = start(arguments, folder)
    process.communicate(timeout=100)
    return process.returncode


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_while_training(tmp_path, number):
    process = start(["train", "text", "book.txt", *FLAGS, "--steps", "1000000", "--out", "run"], tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    time.sleep(0.5)
    process.send_signal(number)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "the whole state is saved in run. Go on with:\n  throughtime train text --out run --resume" in output
    assert "Traceback" not in error
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow  # tests/training/test_resume.py resumes to the same bits within one process
def test_killed_again_and_again_to_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    assert finish(["train", "text", "book.txt", *FLAGS, "--steps", "120", "--out", "run"], whole) == 0
    process = start(["train", "text", "book.txt", *FLAGS, "--steps", "120", "--out", "run"], killed)
    for patience in (0.05, 0.3):
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


def test_the_reader_of_a_sample_leaves(tmp_path):
    assert finish(["train", "text", "book.txt", *FLAGS, "--steps", "2", "--out", "run"], tmp_path) == 0
    process = start(["sample", "run", "--length", "100000"], tmp_path)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
    process.stderr.close()
