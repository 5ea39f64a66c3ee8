"""``throughtime evaluate``: how well a trained model predicts."""

import json
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from .. import _check
from .._bar import bar
from .._check import InputError
from ..data import Section, encode_file
from ..training import RunFolder, device, evaluate as score
from ._app import Call
from ._table import show_scores
from ._verbs import Evaluate


def evaluate(chosen: Evaluate, call: Call) -> int:
    """The verb."""
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
        show_scores(Console(), {name: result})
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
