"""``throughtime export``: a trained model in a file that other runtimes read."""

import json
from pathlib import Path

import torch

from .._errors import InputError
from ..nn import Recurrence
from ..training import RunFolder, check_new_file, export_onnx
from ._app import Call
from ._verbs import Export


def export(chosen: Export, call: Call) -> int:
    """The verb."""
    if chosen.to is not None:
        _check_name(chosen.to, chosen.format)
    folder = RunFolder.open(chosen.run)
    vocabulary = folder.vocabulary()
    model = folder.load_model(vocabulary, torch.device("cpu"))
    file = folder.path / "model.onnx" if chosen.to is None else chosen.to
    export_onnx(model, file, about={"level": vocabulary.level, "vocabulary": json.dumps(vocabulary.to_json())})
    print(f"wrote {file}: {_signature(model.recurrence)}, V {vocabulary.size:,}; the vocabulary is in metadata_props")
    if folder.config.network.initial != "random":
        print("where no state is passed in, a sequence begins as in training; that is why onnxruntime warns of initializers in its inputs")
    return 0


def _check_name(file: Path, format: str) -> None:
    """A new file, whose name says what is in it."""
    check_new_file(file)
    if file.suffix != f".{format}":
        raise InputError(
            f"--to is {file}; expected a name that ends in .{format}, the format that is written. Name it {file.stem}.{format}."
        )


def _signature(stack: Recurrence) -> str:
    """What goes in and comes out, for whoever calls the file next."""
    states = ("h", "c")[: stack.cell.states]
    going_in, coming_out = (", ".join(f"{s}_{way}" for s in states) for way in ("in", "out"))
    sizes = f"L {stack.num_layers}, H {stack.hidden_size:,}"
    return f"tokens (T, B), {going_in} (L, B, H) → logits (T, B, V), {coming_out} (L, B, H), {sizes}"
