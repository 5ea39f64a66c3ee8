"""A measurement of gradient flow as one page: no network, no libraries.

``page.html`` is the frame, ``page.css`` and ``page.js`` go into it as they are, the numbers as the JSON of ``_json``. What was measured,
and the text that it was measured on, is a stranger's: it is escaped in HTML, and in the JSON no ``<`` is left to end a script with.
"""

import os
from html import escape
from pathlib import Path
from string import Template

from ..._check import InputError
from ..._version import __version__
from .._base import AbstractFlow
from ..verdict import Verdict
from ._json import Symbols, to_text

_HERE = Path(__file__).parent
_MARK = {"vanishing": "↘", "exploding": "↗", "healthy": "→"}  # the verdict is not told by its colour alone


def write_page(path: Path, flow: AbstractFlow, *, symbols: Symbols | None = None, window: int | None = None, title: str = "") -> None:
    """Replace ``path`` as a whole.

    Raises:
        InputError: it cannot be written.
    """
    page = to_page(flow, symbols=symbols, window=window, title=title)
    aside = path.parent / f".{path.name}.part"
    try:
        aside.write_text(page, encoding="utf-8", errors="replace")  # half a character, which is no text, is shown as a question mark
        os.replace(aside, path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}); expected a file in a folder that is there and may be written to. "
            "Name another."
        ) from None
    finally:
        if aside.is_file():
            aside.unlink()


def to_page(flow: AbstractFlow, *, symbols: Symbols | None = None, window: int | None = None, title: str = "") -> str:
    """The whole page."""
    data = to_text(flow, symbols=symbols, window=window)
    return Template(_read("page.html")).substitute(
        title=escape(title or "Gradient flow"),
        style=_read("page.css"),
        script=_read("page.js"),
        data=data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028"),
        about=escape(_about(flow)),
        verdict=_verdict(flow.verdict),
        check=escape(_self_check(flow)),
        version=escape(__version__),
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _about(flow: AbstractFlow) -> str:
    layers = f"{flow.layers} layer{'s' if flow.layers > 1 else ''} of {flow.hidden_size} units"
    start = "a state carried in" if flow.carried else "no state carried in"
    return f"{flow.cell}, {layers} · {flow.T} steps × {flow.B} streams, lags 0–{flow.max_lag}, {start} · loss {flow.loss:.4g}"


def _self_check(flow: AbstractFlow) -> str:
    if flow.lags.error != flow.lags.error:
        return "The gradient by lag was not asked for."
    return f"Checked: the parts by lag add up to the whole gradient of full backpropagation, to {flow.lags.error:.1e} of its norm."


def _verdict(verdict: Verdict) -> str:
    """Readable without the script, and first in print."""
    advice = "".join(
        f"<li><p>{escape(a.sentence)}</p><p class=because>{escape(', '.join(f'{k} {v:.4g}' for k, v in a.because.items()))}</p></li>"
        for a in verdict.advice
    )
    return (
        f'<p class="state {escape(verdict.state)}"><span aria-hidden=true>{_MARK[verdict.state]}</span> {escape(verdict.state)}</p>'
        f"<p class=sentence>{escape(verdict.sentence)}</p>" + (f"<h3>What to try</h3><ol class=advice>{advice}</ol>" if advice else "")
    )
