"""``throughtime export``: a trained model in a file that other runtimes read."""

import json

import torch

from ..nn import Recurrence
from ..training import RunFolder, export_onnx
from ._app import Call
from ._verbs import Export


def export(chosen: Export, call: Call) -> int:
    """The verb."""
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
