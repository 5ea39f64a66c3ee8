"""``throughtime export``: a trained model in a file that other runtimes read."""

import torch

from ..models import AbstractModel, Linear, Vectors
from ..training import RunFolder, export_onnx
from ._app import Call
from ._verbs import Export


def export(chosen: Export, call: Call) -> int:
    """The verb."""
    folder = RunFolder.open(chosen.run)
    task = folder.task()
    model = folder.load_model(task, torch.device("cpu"))
    file = folder.path / "model.onnx" if chosen.to is None else chosen.to
    export_onnx(model, file, about=task.facts())
    print(f"wrote {file}: {_signature(model)}; {task.sizes_from} is in metadata_props")
    return 0


def _signature(model: AbstractModel) -> str:
    """What goes in and comes out, for whoever calls the file next."""
    stack = model.recurrence
    states = ("h", "c")[: stack.cell.states]
    going_in, coming_out = (", ".join(f"{s}_{way}" for s in states) for way in ("in", "out"))
    entering = f"inputs (T, B, {model.input.size})" if isinstance(model.input, Vectors) else "tokens (T, B)"
    leaving = "outputs" if isinstance(model.head.output, Linear) else "logits"
    sizes = f"L {stack.num_layers}, H {stack.hidden_size:,}, V {model.head.weight.shape[0]:,}"
    return f"{entering}, {going_in} (L, B, H) → {leaving} (T, B, V), {coming_out} (L, B, H), {sizes}"
