"""``throughtime bench``: how fast this machine is, beside torch.nn and whatever peers are installed."""

import json
import platform
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import torch
from rich.console import Console

from .. import _check
from .._bar import bar
from .._check import InputError
from .._console import PLAIN, put
from .._version import __version__
from ..bench import QUESTIONS, Row, draw, measure
from ..cells import GRU
from ..kernels import architecture, serves
from ..training import write_bytes
from ._app import Call
from ._outputs import lasting_console, new_picture
from ._threads import use_threads
from ._verbs import Bench


def bench(chosen: Bench, call: Call) -> int:
    """The verb."""
    questions = _questions(chosen.only)
    _check.above_zero("--seconds", chosen.seconds)
    use_threads(chosen.threads)
    picture = new_picture(chosen.picture, "bench")
    console, rows, threads = lasting_console(quiet=chosen.json), list[Row](), torch.get_num_threads()
    put(console, machine(threads))
    with (
        call.interruption.answering(lambda: f"interrupted after {len(rows)} rows; no picture was drawn"),
        call.interruption.cleaned_up(lambda: print_json(rows, threads, None) if chosen.json and rows else None),
        bar(Console(stderr=True)) as show,
    ):
        for i, question in enumerate(questions):
            show("measuring", i, len(questions))
            for row in measure([question], threads=threads, seconds=chosen.seconds):
                rows.append(row)
                put(console, *row_parts(row))
                console.file.flush()
        drawn = _draw(rows, machine(threads), picture)
    if chosen.json:
        print_json(rows, threads, str(picture) if drawn else None)
    if drawn:
        console.print(f"picture: {picture}", **PLAIN)
    return 0


def machine(threads: int) -> str:
    """What the numbers hold for."""
    kernels = architecture() if serves(GRU(), torch.empty(0)) == "fast" else "plain loop, no kernels"
    return (
        f"{platform.processor() or platform.machine()}, {threads} {'thread' if threads == 1 else 'threads'}, throughtime {__version__} "
        f"({kernels}), torch {torch.__version__}"
    )


def row_parts(row: Row) -> list[str]:
    """The case, each contestant's median and quartiles, and the ratios."""
    numbers = [f"{name} {s.median:,.4g} ({s.low:,.4g}–{s.high:,.4g}) {row.unit}" for name, s in row.found.items()]
    return [f"{row.question}: {row.case}:", *numbers, *(f"×{row.ratio(peer):.2f} {peer}" for peer in row.peers)]


def print_json(rows: list[Row], threads: int, picture: str | None) -> None:
    """All of it on a line."""
    about = {"machine": platform.processor() or platform.machine(), "throughtime": __version__, "torch": torch.__version__}
    print(json.dumps({**about, "threads": threads, "picture": picture, "rows": [asdict(row) for row in rows]}), flush=True)


def _questions(asked: tuple[str, ...]) -> list[str]:
    for name in asked:
        if name not in QUESTIONS:
            raise InputError(f"--only names {name!r}; expected some of {', '.join(QUESTIONS)}. Leave it out for all of them.")
    return list(dict.fromkeys(asked)) or list(QUESTIONS)


def _draw(rows: list[Row], title: str, path: Path) -> bool:
    figure = draw(rows, title)
    if figure is None:
        return False
    picture = BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_bytes(path, picture.getvalue())
    return True
