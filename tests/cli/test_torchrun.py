"""``train`` in several processes, from the shell: the run of one process, stopped, killed, started again, and over two machines."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from _rounding import path, rounding
from _unequal import UNEQUAL
from safetensors.torch import load_file

from throughtime.cli import main

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

TEXT = "".join(f"the {a} {b} sat on the {c}.\n" for a in ("big", "old", "red") for b in ("cat", "dog", "owl") for c in ("mat", "log")) * 20
SIZES = "--hidden 6 --batch-size 4 --bptt 8 --eval-tokens 500 --optimizer sgd --lr .1 --threads 1".split()
LONGEST = 900  # seconds, on a machine that is busy with other things
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text(TEXT)
    torch.set_default_dtype(torch.float32)


def words(out, *more) -> list[str]:
    return ["train", "text", "t.txt", *SIZES, "--out", out, *map(str, more)]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def started(command, **more) -> subprocess.Popen:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **more)


def torchrun(out, *more, flags=("--nproc-per-node", "2")) -> subprocess.Popen:
    return started([*TORCHRUN, *flags, "-m", "throughtime", *words(out, *more)])


def rows(out) -> list[dict]:
    """Of metrics.jsonl, times aside; a line that is being written is left out."""
    lines = Path(out, "metrics.jsonl").read_text().split("\n")[:-1] if Path(out, "metrics.jsonl").exists() else []
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]


def ends(process) -> str:
    """Well; what it has said."""
    said, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, errors
    return said


def wait_for_step(out, step, process) -> None:
    until = time.monotonic() + LONGEST
    while not any(row["step"] >= step for row in rows(out)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)


def workers(agent) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()]


def assert_same_rows(got, wanted, apart) -> None:
    assert len(got) == len(wanted) > 0
    for one, other in zip(got, wanted, strict=True):
        assert one.keys() == other.keys()
        assert all(one[k] == other[k] or math.isclose(one[k], other[k], rel_tol=apart) for k in one), (one, other)


def assert_same_bits(a, b) -> None:
    for name in ("model.safetensors", "state.safetensors"):
        one, other = load_file(Path(a, name)), load_file(Path(b, name))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one)
    assert rows(a) == rows(b)


FEW = ("--steps", 12, "--eval-every", 5)
APART = 1.1**12 * 12 * rounding(path(9, 17), dtype=torch.float32)  # as in tests/training/test_ranks.py


@pytest.mark.slow
def test_two_processes_are_one_run():
    """Whatever starts them: the environment's variables are torch's own."""
    assert main(words("one", *FEW)) == 0
    around = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "throughtime", *words("two", *FEW)]
    both = [started(command, env=os.environ | around | {"RANK": r, "LOCAL_RANK": r}) for r in "01"]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0].count("run folder: two") == 1
    assert said[1] == ("", "")
    assert_same_rows(rows("two"), rows("one"), APART)


@pytest.mark.slow
@pytest.mark.parametrize("data", UNEQUAL)
def test_two_processes_are_one_run_of_every_task(tmp_path, data):
    """Sequences of unequal lengths: one rank has fewer losses than the other, or none."""
    task, *files = data(tmp_path)
    sizes = "--hidden 6 --batch-size 4 --bptt 8 --optimizer sgd --lr .1 --threads 1 --steps 12 --eval-every 5".split()
    command = ["train", task, *files, *sizes, "--out"]
    assert main([*command, "one"]) == 0
    ends(started([*TORCHRUN, "--nproc-per-node", "2", "-m", "throughtime", *command, "two"]))
    assert_same_rows(rows("two"), rows("one"), APART)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--batch-size", "5"], "--batch-size is 5, for 2 processes; expected a multiple, so that each takes as many streams. Give 4 or 6"),
        (
            ["--gradient", "adaptive:tolerance=.5,max_lags=4"],
            "there are 2 processes; expected a method whose gradient is a sum over streams",
        ),
    ],
)
def test_what_cannot_be_shared_is_said_before_anything_is_made(monkeypatch, capsys, flags, sentence):
    from contextlib import nullcontext

    from throughtime.cli import _train
    from throughtime.training import Ranks
    from throughtime.training._ranks import AbstractLink

    class Two(AbstractLink):
        """The first of two."""

        rank, size = 0, 2

        def add(self, numbers): ...
        def gather(self, content):
            return [content, b""]

        def spread(self, content):
            return content

    monkeypatch.setattr(_train, "together", lambda: nullcontext(Ranks(Two())))
    assert main(words("run", *flags)) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not Path("run").exists()


def test_restarts_need_a_name(monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    assert main(["train", "text", "t.txt", *SIZES]) == 2
    assert "--max-restarts is given to torchrun, and no --out" in capsys.readouterr().err


def test_a_job_that_is_started_again_goes_on_and_another_does_not(monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job7")
    assert main(words("run", "--steps", 3)) == 0
    assert main(words("run", "--steps", 5)) == 0
    assert "going on after step 3" in capsys.readouterr().out
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job8")
    assert main(words("run", "--steps", 5)) == 2
    assert "run is there already" in capsys.readouterr().err


LONG = ("--steps", 400, "--eval-every", 50, "--save-every", "0.1s", "--dropout", 0.2, "--initial", "random")


@pytest.mark.slow
def test_a_rank_that_is_killed_costs_nothing():
    """torchrun starts all again, and they go on by themselves, to the bits of a run that nobody disturbed; every rank's dropout too."""
    ends(torchrun("whole", *LONG))
    cut = torchrun("cut", *LONG, flags=("--nproc-per-node", "2", "--max-restarts", "3"))
    for victim, step in ((1, 60), (0, 160)):
        wait_for_step("cut", step, cut)
        os.kill(workers(cut)[victim], signal.SIGKILL)
    assert ends(cut).count("going on after step") == 2
    assert_same_bits("whole", "cut")


@pytest.mark.slow
def test_a_request_to_stop_ends_all_after_one_step():
    """Ctrl-C goes to all processes of a terminal, SIGTERM to torchrun alone."""
    ends(torchrun("whole", *LONG))
    for step, ask in ((20, lambda p: os.killpg(p.pid, signal.SIGINT)), (120, lambda p: p.terminate())):
        cut = torchrun("cut", *LONG) if step == 20 else torchrun("cut", "--resume")
        wait_for_step("cut", step, cut)
        ask(cut)
        said, errors = cut.communicate(timeout=LONGEST)
        assert said.count("interrupted after step") == 1, (said, errors)
    ends(torchrun("cut", "--resume"))
    assert_same_bits("whole", "cut")


@pytest.mark.slow
def test_four_processes_and_two_agents_are_one_run():
    """Two agents that meet at an address are two machines, but for the network."""
    assert main(words("one", *FEW)) == 0
    ends(torchrun("four", *FEW, flags=("--nproc-per-node", "4")))
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}", "--rdzv-id", "j", "--local-addr", "localhost")
    for agent in [torchrun("nodes", *FEW, flags=("--nnodes", "2", "--nproc-per-node", "2", *meeting)) for _ in "ab"]:
        ends(agent)
    assert_same_rows(rows("four"), rows("one"), APART)
    assert_same_rows(rows("nodes"), rows("one"), APART)
