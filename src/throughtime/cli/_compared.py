"""Gradient methods side by side: a table for the terminal, a picture for everything else."""

import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from .._console import indented
from ..gradients import Compared
from ..training import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"exactly": "#08519c", "within a window": "#e6550d", "in expectation": "#31a354", "approximately": "#756bb1"}
_NAMES = ("cosine", "bias", "variance", "ms", "MB")
_WIDTHS = (17, 8, 18, 10, 11, 10)
_WIDTH = sum(_WIDTHS)
_FLOOR = 2e-16  # a logarithm cannot show 0, and float64 nothing less


def header(console: Console) -> str:
    """Above the rows; nothing where the terminal is too narrow for columns."""
    return _in_columns(("method", "cosine", "bias", "variance", "ms", "MB")) if console.width >= _WIDTH else ""


def row_lines(row: Compared, console: Console) -> list[str]:
    """A method's numbers side by side, or below each other where the terminal is narrow; the reason where there are none."""
    if row.refused is not None:
        return _filled(f"{row.name}: {row.refused}", console)
    method, _, options = row.name.partition(":")
    if console.width < _WIDTH:
        below = [*filter(None, options.split(",")), *(f"{name} {x}" for name, x in zip(_NAMES, _numbers(row), strict=True) if x)]
        return [method, *(line for text in below for line in indented(text, console.width))]
    return [_in_columns((method, *_numbers(row))), *([f"  {options}"] if options else [])]


def left_out(seconds: Mapping[str, float], console: Console) -> list[str]:
    """The methods that the budget has no room for, and what each would take."""
    return _named(seconds, "left out, as too long for --minutes", console)


def given_up(seconds: Mapping[str, float], console: Console) -> list[str]:
    """The methods that took longer than was estimated, and how long each was tried."""
    return _named(seconds, "given up when --minutes were over", console)


def _named(seconds: Mapping[str, float], what: str, console: Console) -> list[str]:
    if not seconds:
        return []
    each = ", ".join(f"{name} ({duration(cost)})" for name, cost in seconds.items())
    return _filled(f"{what}: {each}. Give more --minutes, or --all.", console)


def _filled(text: str, console: Console) -> list[str]:
    width = max(20, min(console.width, 100))
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def duration(seconds: float) -> str:
    """As a person says it.

    >>> duration(0.2), duration(75), duration(9000)
    ('0.2 s', '1.2 min', '2.5 h')
    """
    if seconds < 60:
        return f"{seconds:.1g} s" if seconds < 1 else f"{seconds:.0f} s"
    return f"{seconds / 60:.2g} min" if seconds < 3600 else f"{seconds / 3600:.2g} h"


def _in_columns(words: Sequence[str]) -> str:
    first, *rest = words
    return (first.ljust(_WIDTHS[0]) + "".join(word.rjust(width) for word, width in zip(rest, _WIDTHS[1:], strict=True))).rstrip()


def _numbers(row: Compared) -> tuple[str, ...]:
    """After a bias that was measured from draws stands what chance alone would make of it."""
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
    _draw_cost(fast, shown, [row.milliseconds or 0 for row in shown], "ms a call")
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
    picture = BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_bytes(path, picture.getvalue())


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
