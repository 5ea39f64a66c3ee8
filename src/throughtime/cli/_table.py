"""Scores as a table."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from ..training import Score


def scores_table(scores: Mapping[str, Score]) -> Table:
    """A row a text, a column a unit."""
    table = Table(box=None, header_style="dim")
    for column in ("", "nats/token", "bits/token", "bits/character", "perplexity", "tokens", "unknown"):
        table.add_column(column, justify="left" if not column else "right")
    for name, s in scores.items():
        numbers = (
            f"{s.nats:.4f}",
            f"{s.bits_per_token:.4f}",
            f"{s.bits_per_character:.4f}",
            f"{s.perplexity:.3f}",
            f"{s.tokens:,}",
            f"{s.unknown:,}",
        )
        table.add_row(escape(name), *numbers)
    return table
