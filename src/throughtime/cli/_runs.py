"""``throughtime runs``: what is in a folder of runs, a row a run."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from .._errors import InputError
from ..training import BITS, TASKS, AnyRun, RunFolder, number, read_rows, seed_runs
from ._app import Call
from ._seeds import spread
from ._table import show_table
from ._verbs import Runs


def runs(chosen: Runs, call: Call) -> int:
    """The verb."""
    if not chosen.folder.is_dir():
        raise InputError(f"{chosen.folder} is no folder; expected one with runs in it. Name it, or train first.")
    found = sorted(path.parent for path in chosen.folder.glob("**/config.json"))
    if not found:
        raise InputError(f"{chosen.folder} has no run in it; expected folders that 'throughtime train' made. Name another folder.")
    header = ("run", "cell", "hidden", "steps", "valid loss", "bits/char", "speed")
    rows: dict[str, tuple[str, ...]] = {}
    for path in found:
        family = seed_runs(path.parent) if path.name.startswith("seed-") else []
        for run in family or [path]:
            rows[str(run.relative_to(chosen.folder))] = _row(run)
        if len(family) > 1:
            rows[f"{path.parent.relative_to(chosen.folder)}, mean of {len(family)}"] = _over_seeds(family)
    show_table(Console(), header, rows)
    return 0


def _over_seeds(runs_of: list[Path]) -> tuple[str, ...]:
    """The mean of the best validations; empty where a run has none yet, or cannot be read."""
    with suppress(InputError):
        best = [_best(path, RunFolder.open(path).config) for path in runs_of]
        unit = TASKS[RunFolder.open(runs_of[0]).config.task][1].unit
        values = {name: [row[name] for row in best if isinstance(row.get(name), float)] for name in (unit.score, "bits_per_character")}
        loss, bits = (spread(v) if len(v) == len(runs_of) else "" for v in values.values())
        return ("", "", "", loss, bits if unit is BITS else "", "")
    return ("",) * 6


def _row(path: Path) -> tuple[str, ...]:
    try:
        config = RunFolder.open(path).config
    except InputError:
        return ("cannot be read", *[""] * 5)
    network, unit = config.network, TASKS[config.task][1].unit
    rows = read_rows(path / "metrics.jsonl", unit.drawn)
    trained = [row for row in rows if row.get("kind") == "train"]
    best = _best(path, config)
    last = trained[-1] if trained else {}
    size = f"{network.hidden}" + (f" × {network.layers}" if network.layers > 1 else "")
    speed = last.get(unit.speed)
    return (
        network.cell,
        size,
        f"{last.get('step', 0):,}",
        number(best.get(unit.score), 3),
        number(best.get("bits_per_character"), 3) if unit is BITS else "",
        f"{speed:,.0f} {unit.each}/s" if isinstance(speed, int | float) else "?",
    )


def _best(path: Path, config: AnyRun) -> dict[str, Any]:
    """The row of the best validation."""
    unit = TASKS[config.task][1].unit
    validated = [row for row in read_rows(path / "metrics.jsonl", unit.drawn) if row.get("kind") == "valid"]
    return min(validated, key=lambda row: row.get(unit.score) or float("inf"), default={})
