"""One step of one stream: ``Stream.push`` beside torch.nn's layer with the state handed on, its cell, and onnxruntime."""

import tempfile
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..training import Stream
from ._contest import Call, contest, timed
from ._row import OURS, Row

LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
HIDDEN = 64


def rows(threads: int, seconds: float) -> Iterator[Row]:
    """A row a cell, for one stream of 64 numbers a step."""
    for kind, layer in LAYERS.items():
        calls = contestants(kind, layer(HIDDEN, HIDDEN), torch.randn(1, HIDDEN))
        found = contest({name: timed(call) for name, call in calls.items()}, seconds, scale=1e6)
        yield Row("steps", f"{kind.upper()}, H {HIDDEN}, one stream", "µs", found)


def contestants(kind: str, layer: nn.RNNBase, x: Tensor) -> dict[str, Call]:
    """Each has the same weights, and gets x_t (B, I) and its own state back at every step."""
    calls = {OURS: pushed(layer, x), "torch.nn": by_layer(layer, x), "torch.nn's cell": by_cell(kind, layer, x)}
    return calls | ({"onnxruntime": by_onnx(layer, x)} if find_spec("onnxruntime") and find_spec("onnx") else {})


def pushed(layer: nn.RNNBase, x: object) -> Call:
    stream = Stream(layer, len(x))  # type: ignore[arg-type]
    return lambda: stream.push(x)  # type: ignore[arg-type]


def by_layer(layer: nn.RNNBase, x: Tensor) -> Call:
    kept = [None]

    def step() -> Tensor:
        with torch.inference_mode():
            y, kept[0] = layer(x.unsqueeze(0), kept[0])
        return y[0]

    return step


def by_cell(kind: str, layer: nn.RNNBase, x: Tensor) -> Call:
    cell, kept = CELLS[kind](layer.input_size, layer.hidden_size), [None]
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in layer.state_dict().items()})

    def step() -> Tensor:
        with torch.inference_mode():
            kept[0] = state = cell(x, kept[0])
        return state[0] if isinstance(state, tuple) else state

    return step


def by_onnx(layer: nn.RNNBase, x: Tensor) -> Call:
    """onnxruntime on a file that torch writes, of one step from a state to the next."""
    import onnxruntime

    zeros = torch.zeros(1, len(x), layer.hidden_size)
    states = (zeros, zeros.clone()) if isinstance(layer, nn.LSTM) else zeros
    names = ["h", "c"][: 2 if isinstance(layer, nn.LSTM) else 1]
    ends = ["y", *(f"{name}_next" for name in names)]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about itself
        file = Path(folder) / "step.onnx"
        torch.onnx.export(layer, (x.unsqueeze(0), states), file, dynamo=False, input_names=["x", *names], output_names=ends)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    feed: dict[str, Any] = {"x": x.unsqueeze(0).numpy()} | {name: zeros.numpy() for name in names}

    def step() -> None:
        _, *state = session.run(None, feed)
        feed.update(zip(names, state, strict=True))

    return step
