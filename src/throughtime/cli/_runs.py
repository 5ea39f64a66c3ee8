"""``throughtime runs``: what is in a folder of runs, a row a run."""

from pathlib import Path

from rich.console import Console

from .._errors import InputError
from ..training import BITS, TASKS, RunFolder, number, read_rows
from ._app import Call
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
    show_table(Console(), header, {str(path.relative_to(chosen.folder)): _row(path) for path in found})
    return 0


def _row(path: Path) -> tuple[str, ...]:
    try:
        config = RunFolder.open(path).config
    except InputError:
        return ("cannot be read", *[""] * 5)
    network, unit = config.network, TASKS[config.task][1].unit
    rows = read_rows(path / "metrics.jsonl", unit.drawn)
    trained, validated = ([row for row in rows if row.get("kind") == kind] for kind in ("train", "valid"))
    best = min(validated, key=lambda row: row.get(unit.score) or float("inf"), default={})
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
