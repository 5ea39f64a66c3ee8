"""A measurement of gradient flow as one page: no network, no libraries.

``page.html`` is the frame, ``page.css`` and ``page.js`` go into it as they are, the numbers as the JSON of ``_json``. What was measured,
and the text that it was measured on, is a stranger's: it is escaped in HTML, and in the JSON no ``<`` is left to end a script with.
"""

import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import final

from ..._check import InputError
from ..._version import __version__
from .._base import AbstractFlow
from ..verdict import Advice, Reader, Verdict
from ._json import Symbols, to_text

_HERE = Path(__file__).parent
# The verdict is not told by its colour alone.
_MARK = {"vanishing": "↘", "exploding": "↗", "healthy": "→", "diverged": "✕", "saturated": "▬", "unknown": "?"}
_BECAUSE = {
    "error": "error of the sum",
    "gradient_norm": "norm of dL/dθ",
    "norm_before_growth": "of what has not grown",
    "guess": "loss of guessing",
    "radius": "spectral radius",
    "decay": "change a step",
    "exponent": "greatest Lyapunov exponent",
    "saturation": "share saturated",
    "stuck": "share stuck",
    "half_life_90": "half-life of nine in ten units, at most",
    "own_bias": "bias as it is trained",
    "least_1_percent": "least sliding window for 1 %",
    "least_10_percent": "least sliding window for 10 %",
    "window": "steps between windows",
    "steps": "steps measured",
}


@final
@dataclass(frozen=True)
class Shown:
    """How a page shows a measurement; see ``Flow.to_html``."""

    symbols: Symbols | None = None
    window: int | None = None
    title: str = ""
    reader: Reader = "python"


def write_page(path: Path, flow: AbstractFlow, shown: Shown) -> None:
    """Replace ``path`` as a whole.

    Raises:
        InputError: it cannot be written.
    """
    page = to_page(flow, shown)
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


def to_page(flow: AbstractFlow, shown: Shown) -> str:
    """The whole page."""
    data = to_text(flow, symbols=shown.symbols, window=shown.window)
    return Template(_read("page.html")).substitute(
        title=escape(shown.title or "Gradient flow"),
        style=_read("page.css"),
        script=_read("page.js"),
        data=data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028"),
        about=escape(_about(flow)),
        verdict=_verdict(flow.verdict, shown.reader),
        check=escape(_self_check(flow)),
        version=escape(__version__),
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _about(flow: AbstractFlow) -> str:
    layers = f"{_count(flow.layers, 'layer')} of {_count(flow.hidden_size, 'unit')}"
    start = "a state carried in" if flow.carried else "no state carried in"
    guess = "" if flow.guess is None else f", of guessing {flow.guess:.4g}"
    size = f"{_count(flow.T, 'step')} × {_count(flow.B, 'stream')}, lags 0–{flow.max_lag}"
    return f"{flow.cell}, {layers} · {size}, {start} · loss {flow.loss:.4g}{guess}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _self_check(flow: AbstractFlow) -> str:
    again = f"Measured in float64, because {flow.again}. " if flow.again else ""
    if not len(flow.lags.total):
        return f"{again}The gradient by lag was not measured."
    if flow.lags.closes:
        return (
            f"{again}Checked: the parts by lag add up to the whole gradient of full backpropagation, to {flow.lags.error:.1e} of its norm."
        )
    return f"{again}The check has failed: the parts by lag do not add up to the whole gradient of full backpropagation."


def _verdict(verdict: Verdict, reader: Reader) -> str:
    """Readable without the script, and first in print."""
    advice = "".join(_advice(one, reader) for one in verdict.advice)
    return (
        f'<p class="state {escape(verdict.state)}"><span aria-hidden=true>{_MARK[verdict.state]}</span> {escape(verdict.state)}</p>'
        f"<p class=sentence>{escape(verdict.sentence)}</p>" + (f"<h3>What to try</h3><ol class=advice>{advice}</ol>" if advice else "")
    )


def _advice(advice: Advice, reader: Reader) -> str:
    setting = advice.python if reader == "python" else advice.flags
    code = f"<p><code>{escape(setting)}</code></p>" if setting else ""
    because = ", ".join(f"{_BECAUSE.get(name, name)} {value:.4g}" for name, value in advice.because.items())
    return f"<li><p>{escape(advice.sentence)}</p>{code}<p class=because>{escape(because)}</p></li>"
