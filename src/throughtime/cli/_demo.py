"""``throughtime demo``: a minute of training on English text that every Python carries."""

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ..training import LoopOptions, NetworkOptions, OptimiserOptions, TextOptions
from ._flags import parse
from ._sample import sample
from ._train import TrainText, prepare, run


@dataclass(frozen=True)
class Demo:
    """Train for a minute on Python's language reference, then evaluate and sample."""

    minutes: float = 1.0
    """How long to train."""
    hidden: int = 128
    """Hidden units."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(unless given: runs/, demo and a number)")] = None
    """The run folder."""


def demo(arguments: Sequence[str], prog: str) -> int:
    """The verb."""
    chosen = parse(Demo, arguments, prog, "A minute of training on the language reference in pydoc_data.topics.")
    console = Console()
    with tempfile.TemporaryDirectory() as aside:
        text = Path(aside) / "demo.txt"
        text.write_text(reference_text(), encoding="utf-8")
        folder = prepare(_options(text, chosen), console)
    if code := run(folder, console):
        return code
    console.print("\n[dim]the model goes on from 'The ':[/dim]\n")
    sample([str(folder.path), "--prompt", "The ", "--length", "400", "--temperature", "0.7", "--seed", "1"], prog)
    console.print(
        f"\nmore of it: throughtime sample {shlex.quote(str(folder.path))} --prompt 'The '\ncurves: {folder.curves}",
        soft_wrap=True, highlight=False, markup=False,
    )  # fmt: skip
    return 0


def reference_text() -> str:
    """Python's language reference, topic by topic."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def _options(text: Path, chosen: Demo) -> TrainText:
    return TrainText(
        TextOptions(files=(text,)),
        NetworkOptions(hidden=chosen.hidden, cell="gru"),
        OptimiserOptions(lr=4e-3, schedule="cosine"),
        LoopOptions(minutes=chosen.minutes),
        chosen.out,
    )
