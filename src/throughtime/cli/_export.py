"""``throughtime export``: a trained model in a file that other runtimes read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from .. import _check
from ..nn import Recurrence
from ..training import RunFolder, export_onnx
from ._flags import parse


@dataclass(frozen=True)
class Export:
    """Write a trained model to a file that other runtimes read."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run folder."""
    format: Annotated[str, tyro.conf.arg(metavar="{onnx}")] = "onnx"
    """What to write: onnx runs in onnxruntime, on phones and in browsers too."""
    to: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(unless given: model.onnx in the run folder)")] = None
    """The file to write, which must not be there yet."""


def export(arguments: Sequence[str], prog: str) -> int:
    """The verb."""
    chosen = parse(Export, arguments, prog, "Write a trained model to a file that other runtimes read.")
    _check.one_of("--format", chosen.format, ("onnx",))
    folder = RunFolder.open(chosen.run)
    vocabulary = folder.vocabulary()
    model = folder.load_model(vocabulary, torch.device("cpu"))
    file = folder.path / "model.onnx" if chosen.to is None else chosen.to
    export_onnx(model, file, about={"level": vocabulary.level, "vocabulary": json.dumps(vocabulary.to_json())})
    print(f"wrote {file}: {_signature(model.recurrence)}, V {vocabulary.size:,}; the vocabulary is in metadata_props")
    return 0


def _signature(stack: Recurrence) -> str:
    """What goes in and comes out, for whoever calls the file next."""
    states = ("h", "c")[: stack.cell.states]
    going_in, coming_out = (", ".join(f"{s}_{way}" for s in states) for way in ("in", "out"))
    sizes = f"L {stack.num_layers}, H {stack.hidden_size:,}"
    return f"tokens (T, B), {going_in} (L, B, H) → logits (T, B, V), {coming_out} (L, B, H), {sizes}"
