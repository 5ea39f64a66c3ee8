"""SIGKILL to a random rank at a random moment, under torchrun with restarts: the run ends by itself, as if nothing had been."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from ._runs import Data, Run, differing, rows

RANKS = 2
RUN = Run("text book.txt", "--hidden 16 --dropout 0.2 --initial random", steps=1500)


def rank_kills(data: Data, wanted: int, rng: random.Random) -> dict[str, object]:
    """One run that is disturbed ``wanted`` times, beside one that is not."""
    whole, cut = data.place / "ranks-whole", data.place / "ranks-cut"
    _end(_torchrun(data, whole, 0))
    agent, made = _torchrun(data, cut, wanted), []
    for k in range(wanted):
        if not _wait(agent, cut, moment(k, wanted, rng)):
            break
        time.sleep(rng.uniform(0, 0.3))
        if not (alive := _workers(agent)):
            continue
        victim = rng.choice(alive)
        made.append({"rank": alive.index(victim), "step": _step(cut)})
        os.kill(victim, signal.SIGKILL)
    _end(agent)
    return {"kills": made, "differing": differing(whole, cut)}


def moment(k: int, wanted: int, rng: random.Random) -> int:
    """The step after which the k-th kill comes: evenly over the run; every fourth comes while the ranks are starting."""
    return 0 if k % 4 == 3 else int((k + rng.random()) / wanted * 1400)


def _torchrun(data: Data, out: Path, restarts: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(RANKS), "--max-restarts", str(restarts)]
    said = (data.place / f"{out.name}.said").open("w")
    return subprocess.Popen([*command, "-m", "throughtime", *RUN.words(out)], cwd=data.place, stdout=said, stderr=said)


def _wait(agent: subprocess.Popen, out: Path, step: int) -> bool:
    """Until a step has been told and both ranks are there; False: the run has ended."""
    while agent.poll() is None:
        if _step(out) >= step and len(_workers(agent)) == RANKS:
            return True
        time.sleep(0.02)
    return False


def _step(out: Path) -> int:
    return max((row["step"] for row in rows(out)), default=0)


def _workers(agent: subprocess.Popen) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _end(agent: subprocess.Popen) -> None:
    if agent.wait():
        raise SystemExit(f"torchrun ended with {agent.returncode}")
