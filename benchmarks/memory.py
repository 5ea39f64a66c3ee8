"""Memory and time of one gradient against the length of the sequence: full, checkpointed, torch's autograd, torch.utils.checkpoint.

The task is a character model (embedding, one recurrent layer, softmax over V symbols) on T steps of B streams; inputs are indices. Memory
is the growth of the peak resident set beyond the batch, the weights and a short warm-up, in a process of its own: once with an allocator
that gives every tensor's memory back at once ("in use"), and once as the C library comes, which keeps and scatters some ("resident").
Times are seconds of one core, medians, the contestants taking turns in one process up to T = 10,000; beyond, each has one pass in its own.

    python benchmarks/memory.py [--lengths 1000,10000,100000] [--cells gru] [--batch-size 16] [--hidden 128] [--json FILE]
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import throughtime as tt
from throughtime.bench._memory import Plain
from throughtime.cells import GRU, LSTM, Elman
from throughtime.gradients import CheckpointedBPTT, FullBPTT

CELLS = {"rnn": (Elman(), nn.RNN), "gru": (GRU(), nn.GRU), "lstm": (LSTM(), nn.LSTM)}
OURS = ("full", "every √T", "budget 5 %", "budget 64MB")
THEIRS = ("torch", "torch checkpoint √T")
IN_TURNS = 10_000  # the longest sequence that every contestant is given several times
STEPS_TIMED = 16_000  # in all, by each contestant in turns


class Sizes(NamedTuple):
    """One row's problem."""

    cell: str
    T: int
    B: int
    H: int
    V: int

    def batch(self, T: int | None = None) -> tt.Batch:
        ids = torch.randint(self.V, ((T or self.T) + 1, self.B))
        return tt.Batch(ids[:-1], ids[1:])

    def model(self) -> tt.LanguageModel:
        return tt.LanguageModel(self.V, cell=CELLS[self.cell][0], hidden_size=self.H)


def method_of(who: str, sizes: Sizes) -> FullBPTT | CheckpointedBPTT:
    if who == "full":
        return FullBPTT()
    if who == "budget 5 %":
        return CheckpointedBPTT(budget=CheckpointedBPTT(every=sizes.T).plan(sizes.T, sizes.B, sizes.model()).stored // 20)
    return CheckpointedBPTT(budget="64MB") if who == "budget 64MB" else CheckpointedBPTT()


def contestant(who: str, sizes: Sizes) -> Callable[[tt.Batch], object]:
    """One gradient of a batch."""
    if who in THEIRS:
        plain = Plain(sizes.V, CELLS[sizes.cell][1](sizes.H, sizes.H))
        return lambda batch: plain.backward(batch, every_state=who == "torch")
    model, method = sizes.model(), method_of(who, sizes)
    return lambda batch: method.accumulate(model, batch)


def grow(who: str, sizes: Sizes) -> dict:
    """Megabytes and seconds of one pass; run in a fresh process."""
    run, batch = contestant(who, sizes), sizes.batch()
    run(sizes.batch(T=40))  # what is made once
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    run(batch)
    seconds = time.process_time() - began
    return {"megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6, "seconds": seconds}


def take_turns(sizes: Sizes) -> dict:
    """Median seconds of every contestant; run in a fresh process."""
    runs, batch = {who: contestant(who, sizes) for who in (*OURS, *THEIRS)}, sizes.batch()
    times: dict[str, list[float]] = {who: [] for who in runs}
    for _ in range(1 + max(3, STEPS_TIMED // sizes.T // 2)):
        for who, run in runs.items():
            began = time.process_time()
            run(batch)
            times[who].append(time.process_time() - began)
    return {who: statistics.median(seconds[1:]) for who, seconds in times.items()}


def child(*arguments: str, **environment: str) -> dict:
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return json.loads(done.stdout)


def row(who: str, sizes: Sizes, options: list[str]) -> dict:
    """One contestant at one length, measured in its own process, with what was planned."""
    in_use = child(*options, "--one", who, MALLOC_MMAP_THRESHOLD_="65536")["megabytes"]
    resident, seconds = child(*options, "--one", who).values()
    found = {**sizes._asdict(), "who": who, "megabytes": in_use, "resident": resident, "seconds": seconds}
    if who in OURS and who != "full":
        plan = method_of(who, sizes).plan(sizes.T, sizes.B, sizes.model())
        found |= {"planned": plan.stored / 1e6, "snapshots": plan.snapshots, "unit": plan.unit, "extra": plan.extra_steps / sizes.T}
    return found


def there() -> float:
    """Megabytes of memory that are free."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024 / 1e6


def measure(chosen: argparse.Namespace, console: Console) -> list[dict]:
    rows: list[dict] = []
    for cell in chosen.cells.split(","):
        last: dict[str, tuple[int, float]] = {}  # by contestant: its last length, and the megabytes there
        for T in map(int, chosen.lengths.split(",")):
            sizes = Sizes(cell, T, chosen.batch_size, chosen.hidden, chosen.vocabulary)
            options = [f"--{name.replace('_', '-')}={value}" for name, value in sizes_options(sizes).items()]
            for who in (*OURS, *THEIRS):
                if who in ("full", "torch") and who in last and last[who][1] * T / last[who][0] > 0.7 * there():
                    console.print(f"{cell}, T = {T:,}: {who} is left out; it would take {last[who][1] * T / last[who][0] / 1000:.0f} GB")
                    continue
                rows.append(row(who, sizes, options))
                last[who] = T, rows[-1]["megabytes"]
            if T <= IN_TURNS:
                seconds = child(*options, "--turns")
                for found in rows:
                    if (found["cell"], found["T"]) == (cell, T):
                        found["seconds"] = seconds[found["who"]]
    return rows


def sizes_options(sizes: Sizes) -> dict[str, object]:
    return {"cells": sizes.cell, "lengths": sizes.T, "batch_size": sizes.B, "hidden": sizes.H, "vocabulary": sizes.V}


def table(rows: list[dict]) -> Table:
    view = Table(
        "cell",
        "T",
        "method",
        "MB in use",
        "of full",
        "MB resident",
        "s",
        "× full",
        "MB planned",
        "states",
        "unit",
        "extra forward",
        box=None,
    )
    full = {(r["cell"], r["T"]): r for r in rows if r["who"] == "full"}
    for r in rows:
        against = full.get((r["cell"], r["T"]))
        view.add_row(
            r["cell"],
            f"{r['T']:,}",
            r["who"],
            f"{r['megabytes']:,.1f}",
            f"{r['megabytes'] / against['megabytes']:.1%}" if against else "",
            f"{r['resident']:,.1f}",
            f"{r['seconds']:.3g}",
            f"{r['seconds'] / against['seconds']:.2f}" if against else "",
            *([f"{r['planned']:.1f}", f"{r['snapshots']:,}", f"{r['unit']:,}", f"{r['extra']:.2f}"] if "planned" in r else []),
        )
    return view


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="1000,10000,100000")
    parser.add_argument("--cells", default="gru")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", metavar="WHO", help=argparse.SUPPRESS)
    parser.add_argument("--turns", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.one or chosen.turns:
        sizes = Sizes(chosen.cells, int(chosen.lengths), chosen.batch_size, chosen.hidden, chosen.vocabulary)
        print(json.dumps(grow(chosen.one, sizes) if chosen.one else take_turns(sizes)))
        return
    console = Console(width=140)
    rows = measure(chosen, console)
    console.print(table(rows))
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": platform.machine(), "torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
