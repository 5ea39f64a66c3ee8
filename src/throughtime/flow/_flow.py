"""A measurement of gradient flow and the ways to show it: here the numbers and their reports meet."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

from ._base import AbstractFlow
from .report import Shown, Symbols, to_figure, to_frame, to_text, write_page
from .verdict import Reader

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from polars import DataFrame


@final
@dataclass(frozen=True, eq=False)
class Flow(AbstractFlow):
    """What the gradient of one batch does through time. Its fields are those of ``AbstractFlow``."""

    def to_frame(self, rows: Literal["lags", "map"] = "lags") -> "DataFrame":
        """A polars table: a row a lag (profile, gradient norms, the bias of a window of so many lags and one), or a row a cell of the map.

        Raises:
            ImportError: polars is not installed.
        """
        return to_frame(self, rows)

    def plot(self) -> "Figure":
        """A matplotlib figure: map, profile, gradient by lag, bias curve, Jacobians and gates, as far as they were measured."""
        return to_figure(self)

    def to_json(self, *, symbols: Symbols | None = None, window: int | None = None) -> str:
        """All numbers as JSON, to 6 significant digits (those of the maps to 4), NaN as null.

        Args:
            symbols: what an index spells; None: its number.
            window: the window to mark on the bias curve, in steps; None: what the verdict advises.
        """
        return to_text(self, symbols=symbols, window=window)

    def to_html(
        self,
        path: str | Path,
        *,
        symbols: Symbols | None = None,
        window: int | None = None,
        title: str = "",
        reader: Reader = "python",
    ) -> None:
        """Write one page that needs no network: verdict, map, text, profile, bias curve, spectra, gates. It holds ``to_json``'s numbers.

        Args:
            path: the file; one that stands there is replaced as a whole.
            symbols: as in ``to_json``.
            window: as in ``to_json``.
            title: of the page.
            reader: who is advised: "python" is shown objects, "shell" the flags of ``throughtime train``.

        Raises:
            InputError: the file cannot be written.
        """
        write_page(Path(path), self, Shown(symbols, window, title, reader))
