"""The network of char-rnn trained here and with torch.nn: seconds until the held-out loss is at most 1.387 nats a character.

    python benchmarks/papers/char_rnn_race.py --json benchmarks/results/char-rnn-race.json

One round a call, each with the next seed, which is added to what stands in the file; ``--rounds 3`` for several. All racers are trained in
one process, in slices of ``--slice`` steps by turns, so that whatever else the machine does meets all of them alike. A racer's clock runs
only while it works: the wall's seconds, and the processor's. It stops at the end of the validation that first reaches the target.

* ``throughtime``: the recipe of char_rnn.py.
* ``torch``: the same recipe with torch.nn, from the same weights and on the same windows.
* ``char-rnn``: torch.nn with char-rnn's own recipe, which reached 1.3872 at its 20th epoch when it was measured once. Here it begins from
  torch's weights, and the forget gate's bias at 1, without the clip of each number of the gradient at ±5; char-rnn draws from U(±.08).

The held-out text is read as char_rnn.py reads it: in 50 parts side by side, each from the zero state.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _table import machine
from char_rnn import NETWORK, RECIPE, STREAMS, parts, words

sys.path.insert(0, str(Path(__file__).parents[1]))
import race

from throughtime.training import Training
from throughtime.training._schedule import learning_rate

TARGET = 1.387
THEIRS = (
    f"{NETWORK} --forget-bias 1 --optimizer rmsprop --lr 0.002 --schedule exponential --decay 0.97 --decay-after 10 --clip 0 --epochs 50"
)
RACERS = {"throughtime": (race.Ours, RECIPE), "torch": (race.Plain, RECIPE), "char-rnn": (race.Plain, THEIRS)}


class Clock(NamedTuple):
    """Seconds so far."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> "Clock":
        return cls(time.perf_counter(), time.process_time())

    def after(self, began: "Clock") -> "Clock":
        """The time since ``began``, added to this."""
        now = Clock.now()
        return Clock(self.wall + now.wall - began.wall, self.processor + now.processor - began.processor)


class Runner:
    """A racer on its way, with a clock of its own."""

    def __init__(self, name: str, training: Training) -> None:
        self.name, self.training, self.racer = name, training, RACERS[name][0](training)
        self.step, self.nats, self.clock, self.in_steps = 0, float("inf"), Clock(0.0, 0.0), 0.0
        self.steps = training.loop.steps or (training.loop.epochs or 10) * len(training.stream)
        training.model.train()

    @property
    def arrived(self) -> bool:
        return self.nats <= TARGET or self.step == self.steps

    def run(self, steps: int) -> None:
        """Up to so many steps, with the validations between them."""
        began = Clock.now()
        for _ in range(steps):
            if not self.arrived:
                self._step()
        self.clock = self.clock.after(began)

    def _step(self) -> None:
        t, began = self.training, time.perf_counter()
        every, total = len(t.stream), self.steps
        rate = learning_rate(t.optimiser, step=self.step, epoch=self.step / every, progress=self.step / total)
        for group in self.racer.optimizer.param_groups:
            group["lr"] = rate
        self.racer.step(t.stream.at(self.step))
        self.step += 1
        self.in_steps += time.perf_counter() - began
        if self.step == total or self.step % t.eval_every == 0:
            self.nats = self.racer.validate(t.task.corpus().sections["valid"], STREAMS)
            t.model.train()
            print(f"  {self.name}, step {self.step}: {self.nats:.4f} nats", flush=True)

    def result(self) -> dict[str, Any]:
        return {
            "reached": self.nats <= TARGET,
            "seconds": round(self.clock.wall, 2),
            "processor_seconds": round(self.clock.processor, 2),
            "steps": self.step,
            "nats": self.nats,
            "per_step": self.in_steps / self.step,  # seconds, without validations
        }


def raced(names: list[str], seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """One round: all racers by turns until the last has arrived."""
    with tempfile.TemporaryDirectory() as aside:
        runners = [Runner(name, opened(name, seed, Path(aside) / name, chosen.steps)) for name in names]
        torch.set_num_threads(chosen.threads)
        while not all(runner.arrived for runner in runners):
            for runner in runners:
                runner.run(chosen.slice)
        return {runner.name: runner.result() for runner in runners}


def opened(name: str, seed: int, folder: Path, steps: int | None) -> Training:
    folder.mkdir()
    torch.manual_seed(seed)
    recipe = RACERS[name][1] if steps is None else re.sub(r"--epochs \d+", f"--steps {steps}", RACERS[name][1])
    return race.opened([*parts(folder), *words(recipe, seed)], folder / "run")


def lines(rounds: list[dict[str, Any]], names: list[str]) -> Iterator[str]:
    """A racer a line: medians over rounds, and its time over that of the first."""
    for name in names:
        ran = [(r["racers"][name], r["racers"][names[0]]) for r in rounds if name in r["racers"] and names[0] in r["racers"]]
        if ran:
            seconds = statistics.median(mine["seconds"] for mine, _ in ran)
            times = [mine["seconds"] / first["seconds"] for mine, first in ran]
            reached = sum(mine["reached"] for mine, _ in ran)
            per_step = 1e3 * statistics.median(mine["per_step"] for mine, _ in ran)
            yield (
                f"{name:12} {seconds:7.1f} s, {statistics.median(times):.2f} ({min(times):.2f}–{max(times):.2f}) times {names[0]}; "
                f"reached in {reached} of {len(ran)} rounds; {per_step:.1f} ms a step"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="so many more")
    parser.add_argument("--racers", default=",".join(RACERS))
    parser.add_argument("--slice", type=int, default=50, help="steps of a racer before the next one's turn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="fewer than the recipes', to see that it runs")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    names = chosen.racers.split(",")
    about = {"machine": machine(), "torch": torch.__version__, "threads": chosen.threads, "target": TARGET, "slice": chosen.slice}
    about |= {"recipes": {name: recipe for name, (_, recipe) in RACERS.items()}}
    rounds = kept(chosen.json, about)
    for _ in range(chosen.rounds):
        seed = 1 + max((each["seed"] for each in rounds), default=-1)
        rounds.append({"seed": seed, "racers": raced(names, seed, chosen)})
        if chosen.json:
            chosen.json.write_text(json.dumps(about | {"rounds": rounds}, indent=1) + "\n")
    print("\n".join(lines(rounds, names)))


def kept(file: Path | None, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The rounds that stand in the file, if they were raced alike."""
    found = json.loads(file.read_text()) if file and file.exists() else {}
    return found.pop("rounds") if found and {key: found[key] for key in about} == about else []


if __name__ == "__main__":
    main()
