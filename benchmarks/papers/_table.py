"""What every script of this folder does alike: its flags, a run for each row and seed, the table on the screen, and the results as JSON.

A run that stands in the JSON file with the same recipe is not done again, so a script that was stopped goes on where it was.
"""

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _shown import shown
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Outcome:
    """What one seed came to."""

    value: float  # the paper's measure
    parameters: int
    about: dict[str, Any]  # what else is worth keeping


@dataclass(frozen=True)
class Row:
    """A row of the paper's table, and how it is reached here."""

    name: str
    paper: str  # its number, as it is printed there
    recipe: str  # all that was chosen
    train: Callable[[int], Outcome]  # a seed


@dataclass(frozen=True)
class Table:
    """A table: how its numbers are called and written, and its rows, whole or in the smallest form that still runs."""

    measure: str
    digits: str  # format of a value
    rows: Callable[[bool], Sequence[Row]]
    picture: Callable[[Sequence[dict[str, Any]]], Figure] | None = None  # of the results


def main(table: Table, doc: str | None, words: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run what the command names, keep it, print the table."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", help="only these, by name")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where results are kept; runs that stand there are not done again")
    if table.picture:
        parser.add_argument("--picture", type=Path, help="where the picture goes")
    parser.add_argument("--small", action="store_true", help="the smallest form of all, which shows only that it runs")
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    kept = _kept(chosen.json)
    every = table.rows(chosen.small)
    for row in every:
        if chosen.rows and row.name not in chosen.rows:
            continue
        runs = _runs_of(kept, row, [each.name for each in every])
        for seed in range(chosen.seeds):
            if seed not in {run["seed"] for run in runs}:
                runs.append(_timed(row, seed))
                print(f"{row.name}, seed {seed}: {runs[-1]}", flush=True)
                _keep(chosen, table, kept)
    found = kept["rows"]
    if table.picture and chosen.picture:
        table.picture(found).savefig(chosen.picture, dpi=150)
    print(f"\n{shown(found, table.measure, table.digits)}\n{command(chosen)}")
    return found


def _runs_of(kept: dict[str, Any], row: Row, order: Sequence[str]) -> list[dict[str, Any]]:
    """The runs that are kept of a row; those of another recipe are forgotten, and so are rows that the table does not have."""
    same = next((old for old in kept["rows"] if old["name"] == row.name and old["recipe"] == row.recipe), None)
    same = same or {"name": row.name, "paper": row.paper, "recipe": row.recipe, "runs": []}
    others = [old for old in kept["rows"] if old["name"] != row.name and old["name"] in order]
    kept["rows"] = sorted([*others, same], key=lambda each: order.index(each["name"]))
    return same["runs"]


def _timed(row: Row, seed: int) -> dict[str, Any]:
    """One run: on one thread the processor's seconds are those of an idle machine's wall."""
    wall, processor = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    outcome = row.train(seed)
    seconds = {"seconds": round(time.perf_counter() - wall, 1), "processor_seconds": round(time.process_time() - processor, 1)}
    return {"seed": seed, "value": outcome.value, "parameters": outcome.parameters, **seconds, **outcome.about}


def command(chosen: argparse.Namespace) -> str:
    """What makes the whole table."""
    kept = ["--json", str(chosen.json)] if chosen.json else []
    return shlex.join(["python", sys.argv[0], "--seeds", str(chosen.seeds), *kept])


def machine() -> str:
    """The processor, and how many of it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{next(iter(names), platform.processor() or platform.machine())}, {os.cpu_count()} cores"


def _kept(file: Path | None) -> dict[str, Any]:
    return json.loads(file.read_text()) if file and file.exists() else {"rows": []}


def _keep(chosen: argparse.Namespace, table: Table, kept: dict[str, Any]) -> None:
    if chosen.json:
        about = {"measure": table.measure, "digits": table.digits, "command": command(chosen), "machine": machine()}
        about |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
        chosen.json.write_text(json.dumps(kept | about, indent=1) + "\n")


def count(model: torch.nn.Module) -> int:
    """Parameters of a model."""
    return sum(p.numel() for p in model.parameters())
