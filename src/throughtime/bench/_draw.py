"""The rows as a picture: how many times as fast, or as sparing, this package is as each peer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._row import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000")  # Okabe & Ito's, told apart by everyone
_MARKS = "DosvP^"


def draw(rows: Sequence[Row], title: str) -> "Figure | None":
    """A line a case, a mark a peer; at the right of 1 this package is ahead. None where no row has a peer."""
    from matplotlib.figure import Figure  # a second to import: only where it is used
    from matplotlib.ticker import FuncFormatter, NullFormatter

    shown = [row for row in rows if row.peers][::-1]
    if not shown:
        return None
    figure = Figure(figsize=(10, 1.6 + 0.34 * len(shown)), layout="constrained")
    axes = figure.subplots()
    names = [f"{row.question}: {row.case}" for row in shown]
    peers = list(dict.fromkeys(peer for row in rows for peer in row.peers))
    for i, peer in enumerate(peers):
        here = [(row.ratio(peer), name) for row, name in zip(shown, names, strict=True) if peer in row.peers]
        ratios, at = zip(*here, strict=True)
        axes.plot(ratios, at, _MARKS[i % len(_MARKS)], color=_COLOURS[i % len(_COLOURS)], label=f"against {peer}")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(names)), names)  # in the order of the rows, whichever peer a row has
    axes.set(xscale="log", xlabel="times as good as the peer: speed, or memory saved")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3, axis="x", which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    figure.suptitle(title, fontsize=11)
    return figure
