"""Scores as a table, or as a list where the terminal is narrow."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .._console import PLAIN, indented
from ..training import AbstractScore


def show_scores(console: Console, scores: Mapping[str, AbstractScore]) -> None:
    """A row a measured part, and one for each that it is compared with; a column a unit."""
    rows = {row: cells for name, score in scores.items() for row, cells in score.table(name).items()}
    units = list(dict.fromkeys(unit for cells in rows.values() for unit in cells))
    show_table(console, ("", *units), {row: [cells.get(unit, "") for unit in units] for row, cells in rows.items()})


def show_table(console: Console, header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """Columns side by side if they fit; else row after row, a line a value."""
    columns = [header, *([name, *values] for name, values in rows.items())]
    width = sum(max(map(len, column)) + 2 for column in zip(*columns, strict=True))
    if width > console.width:
        for name, values in rows.items():
            lines = [f"{unit} {value}" for unit, value in zip(header[1:], values, strict=True) if value]
            console.print("\n".join([name, *(line for text in lines for line in indented(text, console.width))]), **PLAIN)
        return
    table = Table(box=None, header_style="dim")
    for column in header:
        table.add_column(column, justify="right" if column in header[1:] else "left", no_wrap=True)
    for name, values in rows.items():
        table.add_row(escape(name), *values)
    console.print(table)


def show_facts(console: Console, facts: Mapping[str, str]) -> None:
    """A name and what is to be said of it, beside it or below it."""
    column = max(map(len, facts)) + 2
    for name, value in facts.items():
        beside = wrap(value, max(1, console.width - column), break_long_words=False, break_on_hyphens=False)
        if console.width < 2 * column + 20 or any(len(line) > console.width - column for line in beside):
            lines = [name, *indented(value, console.width)]
        else:
            lines = [label.ljust(column) + line for label, line in zip_longest([name], beside, fillvalue="")]
        console.print("\n".join(lines), **PLAIN)
