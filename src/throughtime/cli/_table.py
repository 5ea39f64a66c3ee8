"""Scores as a table, or as a list where the terminal is narrow."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..training import Score, number


def show_scores(console: Console, scores: Mapping[str, Score]) -> None:
    """A row a text, a column a unit."""
    show_table(console, ("", *_UNITS), {name: _numbers(score) for name, score in scores.items()})


_UNITS = ("nats/token", "bits/token", "bits/character", "perplexity", "tokens", "unknown")


def show_table(console: Console, header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """Columns side by side if they fit; else row after row, a line a value."""
    columns = [header, *([name, *values] for name, values in rows.items())]
    width = sum(max(map(len, column)) + 2 for column in zip(*columns, strict=True))
    if width > console.width:
        for name, values in rows.items():
            console.print(name, soft_wrap=True, highlight=False, markup=False)
            for unit, value in zip(header[1:], values, strict=True):
                if value:
                    console.print(f"  {unit} {value}", soft_wrap=True, highlight=False, markup=False)
        return
    table = Table(box=None, header_style="dim")
    for column in header:
        table.add_column(column, justify="right" if column in header[1:] else "left", no_wrap=True)
    for name, values in rows.items():
        table.add_row(escape(name), *values)
    console.print(table)


def _numbers(s: Score) -> tuple[str, ...]:
    bits = number(s.bits_per_character, 4)
    return (number(s.nats, 4), number(s.bits_per_token, 4), bits, number(s.perplexity, 3), f"{s.tokens:,}", f"{s.unknown:,}")
