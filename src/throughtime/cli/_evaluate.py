"""``throughtime evaluate``: how well a trained model predicts."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console

from .. import _check
from .._check import InputError
from ..data import Section, encode_file
from ..training import RunFolder, bar, device, evaluate as score
from ._flags import parse
from ._table import scores_table


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained model on held-out text."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run folder."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(unless given: the run's own)")] = None
    """Another text."""
    section: Annotated[
        Literal["train", "valid", "test"] | None,
        tyro.conf.arg(metavar="{train,valid,test}", help_behavior_hint="(unless given: test, or valid where there is no test)"),
    ] = None
    """Which part of the run's text."""
    encoding: str = "utf-8"
    """The encoding of --data."""
    streams: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(unless given: more for a longer text)")] = None
    """Read the text in this many pieces side by side, each from the initial state."""
    threads: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(unless given: torch's own choice)")] = None
    """Threads of torch."""
    device: str = "cpu"
    """Where to compute."""
    json: bool = False
    """Print JSON."""


def evaluate(arguments: Sequence[str], prog: str) -> int:
    """The verb."""
    chosen = parse(Evaluate, arguments, prog, "Nats, bits and perplexity of a trained model on a text.")
    if chosen.threads is not None:
        torch.set_num_threads(_check.positive("--threads", chosen.threads, most=1024))
    if chosen.streams is not None:
        _check.positive("--streams", chosen.streams)
    if chosen.data is not None and chosen.section is not None:
        raise InputError("--data and --section are given together; expected one text to measure. Leave one out.")
    folder = RunFolder.open(chosen.run)
    vocabulary = folder.vocabulary()
    model = folder.load_model(vocabulary, device(chosen.device))
    with tempfile.TemporaryDirectory() as aside:
        if chosen.data is not None:
            name, section = chosen.data.name, encode_file(chosen.data, vocabulary, Path(aside) / "data.bin", chosen.encoding)
        else:
            name, section = _own_section(folder, chosen.section)
        with bar(Console(stderr=True)) as show:
            result = score(model, section, streams=chosen.streams, progress=lambda done, total: show(f"measuring {name}", done, total))
    if chosen.json:
        print(json.dumps({"text": name, **result.as_dict()}))
    else:
        Console().print(scores_table({name: result}))
    return 0


def _own_section(folder: RunFolder, wanted: str | None) -> tuple[str, Section]:
    sections = folder.corpus().sections
    names = [name for name in ((wanted,) if wanted else ("test", "valid")) if len(sections[name].tokens) >= 2]
    if not names:
        raise InputError(
            f"{folder.path} has no text in its section {wanted or 'test, nor in valid'}; expected two symbols or more. "
            "Give a text with --data."
        )
    return names[0], sections[names[0]]
