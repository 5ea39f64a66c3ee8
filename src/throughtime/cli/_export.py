"""``throughtime export``: a trained model in a file that other runtimes read."""

from pathlib import Path

import torch

from .._errors import InputError
from ..models import AbstractModel, Linear, Vectors
from ..training import RunFolder, check_new_file, export_onnx
from ._app import Call
from ._verbs import Export


def export(chosen: Export, call: Call) -> int:
    """The verb."""
    if chosen.to is not None:
        _check_name(chosen.to, chosen.format)
    folder = RunFolder.open(chosen.run)
    task = folder.task()
    model = folder.load_model(task, torch.device("cpu"))
    file = folder.path / "model.onnx" if chosen.to is None else chosen.to
    export_onnx(model, file, about=task.facts())
    print(f"wrote {file}: {_signature(model)}; {task.sizes_from} is in metadata_props")
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


def _signature(model: AbstractModel) -> str:
    """What goes in and comes out, for whoever calls the file next."""
    stack = model.recurrence
    states = ("h", "c")[: stack.cell.states]
    going_in, coming_out = (", ".join(f"{s}_{way}" for s in states) for way in ("in", "out"))
    entering = f"inputs (T, B, {model.input.size})" if isinstance(model.input, Vectors) else "tokens (T, B)"
    leaving = "outputs" if isinstance(model.head.output, Linear) else "logits"
    sizes = f"L {stack.num_layers}, H {stack.hidden_size:,}, V {model.head.weight.shape[0]:,}"
    return f"{entering}, {going_in} (L, B, H) → {leaving} (T, B, V), {coming_out} (L, B, H), {sizes}"
