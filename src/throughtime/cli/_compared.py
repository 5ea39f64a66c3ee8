"""Gradient methods side by side: a table for the terminal, a picture for everything else."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from ..gradients import Compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"exactly": "#08519c", "within a window": "#e6550d", "in expectation": "#31a354", "approximately": "#756bb1"}
_FLOOR = 2e-16  # a logarithm cannot show 0, and float64 nothing less


def compared_table(rows: Sequence[Compared]) -> Table:
    """A row a method; after a bias that was measured from draws, what chance alone would make of it."""
    table = Table(box=None, header_style="dim")
    for column in ("method", "cosine", "bias", "variance", "ms", "MB"):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for row in rows:
        if row.refused is None:
            table.add_row(_on_two_lines(row.name), *_numbers(row))
    return table


def refusals(rows: Sequence[Compared]) -> list[str]:
    """A line for each method that could not be measured, with the reason."""
    return [f"{row.name}: {row.refused}" for row in rows if row.refused is not None]


def _on_two_lines(name: str) -> str:
    """The options below the name, so that a table fits into 80 columns."""
    method, colon, options = escape(name).partition(":")
    return f"{method}\n  [dim]{options}[/dim]" if colon else method


def _numbers(row: Compared) -> tuple[str, ...]:
    assert row.cosine is not None, "it was measured"
    assert row.milliseconds is not None, "as above"
    assert row.peak_bytes is not None, "as above"
    bias = f"{row.bias:.1e}" + (f" ± {row.noise:.0e}" if row.draws > 1 else "")
    variance = f"{row.variance:.1e}" if row.draws > 1 else ""
    return f"{row.cosine:.4f}", bias, variance, f"{row.milliseconds:.1f}", f"{row.peak_bytes / 1e6:.2f}"


def draw_compared(rows: Sequence[Compared], path: Path, title: str) -> None:
    """A row a method: distance from the exact gradient, time and memory; coloured by what the method promises."""
    from matplotlib.figure import Figure  # a second to import: only where it is used
    from matplotlib.patches import Patch

    shown = [row for row in rows if row.refused is None][::-1]
    figure = Figure(figsize=(12, 1.8 + 0.42 * len(shown)), layout="constrained")
    right, fast, small = figure.subplots(1, 3, sharey=True, width_ratios=[2, 1, 1])
    _draw_bias(right, shown)
    _draw_cost(fast, shown, [row.milliseconds or 0 for row in shown], "ms a step")
    _draw_cost(small, shown, [max((row.peak_bytes or 0) / 1e6, 1e-3) for row in shown], "peak MB")
    for axes in (right, fast, small):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3, axis="x")
    figure.suptitle(title, fontsize=11)
    squares = {agrees: Patch(color=colour) for agrees, colour in _COLOURS.items() if any(row.agrees == agrees for row in shown)}
    chance = dict(zip(("what chance alone makes of the bias", "one draw's deviation"), right.lines, strict=True))
    figure.legend(
        [*squares.values(), *chance.values()], [*squares, *chance], frameon=False, loc="outside lower center", ncols=6, fontsize=8
    )
    figure.savefig(path, dpi=120, format="png")


def _draw_bias(axes: "Axes", shown: Sequence[Compared]) -> None:
    """Of the methods that draw, also what chance alone would make of the bias, and the deviation of one draw."""
    axes.scatter([max(row.bias or 0, _FLOOR) for row in shown], _names(shown), color=_colours(shown), marker="D", s=45)
    drawn = [row for row in shown if row.draws > 1]
    axes.plot([row.noise or _FLOOR for row in drawn], _names(drawn), "|", color="black", markersize=14)
    deviations = [(row.variance or 0) ** 0.5 for row in drawn]
    axes.plot(deviations, _names(drawn), "o", color="black", markersize=4)
    axes.set(xscale="log", xlabel="relative bias", xlim=(1e-16, max(10, *(2 * d for d in deviations or [1]))))


def _draw_cost(axes: "Axes", shown: Sequence[Compared], values: Sequence[float], label: str) -> None:
    axes.scatter(values, _names(shown), color=_colours(shown), marker="D", s=45)
    axes.set(xlabel=label, xscale="log")


def _names(rows: Sequence[Compared]) -> list[str]:
    return [row.name for row in rows]


def _colours(rows: Sequence[Compared]) -> list[str]:
    return [_COLOURS[row.agrees] for row in rows]
