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
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch
from torch import nn

import throughtime as tt
from throughtime.bench import _steps

Call = Callable[[], object]


def extension(layer: nn.RNNBase, x: torch.Tensor) -> Call:
    steps, y = tt.Stream(layer, len(x))._steps._extension, torch.empty(len(x), layer.hidden_size)
    return lambda: steps.step(x, y)


def seconds(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def contestants(kind: str, B: int, H: int) -> dict[str, Call]:
    layer, x = _steps.LAYERS[kind](H, H), torch.randn(B, H)
    ours, theirs, cell, *onnx = _steps.contestants(kind, layer, x).values()
    calls = {"extension": extension(layer, x), "torch in": ours, "numpy in": _steps.pushed(layer, x.numpy()), "torch": theirs, "cell": cell}
    return calls | dict(zip(["onnx"], onnx, strict=False))


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
    for kind, B, H in product(_steps.LAYERS, args.B, args.H):
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
