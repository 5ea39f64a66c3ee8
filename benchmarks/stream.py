"""How long does one step of a stream take: Stream beside torch step by step and onnxruntime.

    python benchmarks/stream.py                          H = 16 to 512, one stream and eight, one thread
    python benchmarks/stream.py --H 64 --B 1 --json results.json

Each contestant has the same weights, I = H, and gets x_t and its own state back at every step: "extension" is the extension's step on
tensors; "torch in", "numpy in" are Stream.push; "torch" is torch.nn's layer under inference_mode with T = 1 and the state handed on,
"cell" torch.nn's GRUCell and so on; "onnx" is onnxruntime's operator of one step, state in and out, if it is installed. They take turns,
round by round; µs, medians ± half the distance between the quartiles.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn

import throughtime as tt

LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}

Call = Callable[[], object]


def extension(layer: nn.RNNBase, x: torch.Tensor) -> Call:
    steps, y = tt.Stream(layer, len(x))._steps._extension, torch.empty(len(x), layer.hidden_size)
    return lambda: steps.step(x, y)


def pushed(layer: nn.RNNBase, x: object) -> Call:
    stream = tt.Stream(layer, len(x))
    return lambda: stream.push(x)


def by_layer(layer: nn.RNNBase, x: torch.Tensor) -> Call:
    kept = [None]

    def step() -> torch.Tensor:
        with torch.inference_mode():
            y, kept[0] = layer(x.unsqueeze(0), kept[0])
        return y[0]

    return step


def by_cell(kind: str, layer: nn.RNNBase, x: torch.Tensor) -> Call:
    cell, kept = CELLS[kind](layer.input_size, layer.hidden_size), [None]
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in layer.state_dict().items()})

    def step() -> torch.Tensor:
        with torch.inference_mode():
            kept[0] = cell(x, kept[0])
        return kept[0]

    return step


def by_onnx(layer: nn.RNNBase, x: torch.Tensor) -> Call | None:
    """onnxruntime on a file that torch writes, of one step from a state to the next."""
    try:
        import onnxruntime
    except ImportError:
        return None
    zeros = torch.zeros(1, len(x), layer.hidden_size)
    states = (zeros, zeros.clone()) if isinstance(layer, nn.LSTM) else zeros
    names = ["h", "c"][: 2 if isinstance(layer, nn.LSTM) else 1]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "step.onnx"
        torch.onnx.export(
            layer,
            (x.unsqueeze(0), states),
            file,
            dynamo=False,
            input_names=["x", *names],
            output_names=["y", *(f"{n}_next" for n in names)],
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    feed = {"x": x.unsqueeze(0).numpy()} | {name: zeros.numpy() for name in names}

    def step() -> np.ndarray:
        y, *state = session.run(None, feed)
        feed.update(zip(names, state, strict=True))
        return y

    return step


def seconds(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def contestants(kind: str, B: int, H: int) -> dict[str, Call]:
    layer, x = LAYERS[kind](H, H), torch.randn(B, H)
    calls = {
        "extension": extension(layer, x),
        "torch in": pushed(layer, x),
        "numpy in": pushed(layer, x.numpy()),
        "torch": by_layer(layer, x),
        "cell": by_cell(kind, layer, x),
        "onnx": by_onnx(layer, x),
    }
    return {name: call for name, call in calls.items() if call is not None}


def measure(calls: dict[str, Call], rounds: int, turn: float) -> dict[str, tuple[float, float]]:
    counts = {name: max(1, int(turn / min(seconds(c, 5) for _ in range(3)))) for name, c in calls.items()}
    found = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(seconds(call, counts[name]) * 1e6)
    quartiles = {name: statistics.quantiles(times, n=4) for name, times in found.items()}
    return {name: (middle, (high - low) / 2) for name, (low, middle, high) in quartiles.items()}


def main() -> None:
    numbers = lambda s: [int(x) for x in s.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--H", type=numbers, default=[16, 64, 256, 512])
    parser.add_argument("--B", type=numbers, default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=float, default=0.01, help="seconds of one turn")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for kind, B, H in product(LAYERS, args.B, args.H):
        found = measure(contestants(kind, B, H), args.rounds, args.turn)
        print(
            f"{kind:4} B {B} H {H:3}  " + "  ".join(f"{name} {middle:7.1f} ±{half:4.1f}" for name, (middle, half) in found.items()),
            flush=True,
        )
        rows.append({"cell": kind, "B": B, "H": H, "threads": args.threads, "us": {n: [round(v, 2) for v in t] for n, t in found.items()}})
    if args.json:
        args.json.write_text(
            json.dumps({"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "steps": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
