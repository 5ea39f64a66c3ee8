"""How long is one call of a small layer: this package's RNN, GRU and LSTM beside torch.nn's, with and without gradient.

    python benchmarks/calls.py                               the whole grid, one and two threads
    python benchmarks/calls.py --cells gru --modes none --threads 1 --T 1 --B 1 --H 64 --layers 1
    python benchmarks/calls.py --packed ragged,alike --modes grad,none --layers 1 --T 2,3,5,8,10,12,15,20,30 --B 1,4,16 --H 16,64,256
    python benchmarks/calls.py --json results.json

The grid: T steps, B sequences, I = H units, one or two layers; "grad" is a forward and a backward pass through autograd with fresh
gradients, "none" a forward pass under torch.no_grad, "inference" one under torch.inference_mode. The contestants take turns, round by
round, and have the same weights. A time is the median over the rounds, ± half the distance between the quartiles; the ratio is
torch's time divided by ours, ± its own half spread, where a round's ratio is that of two turns side by side. With --states given, each
call gets the state before its first step, as a roll-out does; otherwise it begins from zeros. With --packed the input is a PackedSequence:
"ragged", of lengths from 1 to T at equal distances, or "alike", each of T steps.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pack_sequence

import throughtime as tt

THEIRS = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
OURS = {"rnn": tt.RNN, "gru": tt.GRU, "lstm": tt.LSTM}
MODES: dict[str, Callable[[], AbstractContextManager]] = {"grad": nullcontext, "none": torch.no_grad, "inference": torch.inference_mode}


@dataclass(frozen=True)
class Point:
    """One place of the grid."""

    cell: str
    mode: str
    threads: int
    layers: int
    T: int
    B: int
    H: int
    state: str
    packed: str = "no"


@dataclass(frozen=True)
class Found:
    """Microseconds of a call, and torch's time divided by ours."""

    point: Point
    torch: float
    ours: float
    ratio: float
    spread: float  # of the ratio


def call_of(layer: torch.nn.Module, p: Point) -> Callable[[], object]:
    """One call of a layer, as a program makes it."""
    xs, dhs = inputs_of(p)
    parameters = list(layer.parameters())
    h = torch.randn(p.layers, p.B, p.H)
    hx = None if p.state == "zeros" else (h, h.clone()) if p.cell == "lstm" else h

    def both() -> None:
        hs = layer(xs, hx)[0]
        (hs.data if p.packed != "no" else hs).backward(dhs)
        for parameter in parameters:
            parameter.grad = None

    return both if p.mode == "grad" else lambda: layer(xs, hx)


def inputs_of(p: Point) -> tuple[Any, torch.Tensor]:
    """The input, and the gradient that arrives at the output."""
    if p.packed == "no":
        return torch.randn(p.T, p.B, p.H), torch.randn(p.T, p.B, p.H)
    lengths = [p.T] * p.B if p.packed == "alike" else sorted((round(x) for x in torch.linspace(p.T, 1, p.B).tolist()), reverse=True)
    packed = pack_sequence([torch.randn(n, p.H) for n in lengths])
    return packed, torch.randn_like(packed.data)


def seconds(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def measure(p: Point, rounds: int, turn: float) -> Found:
    torch.set_num_threads(p.threads)
    theirs = THEIRS[p.cell](p.H, p.H, num_layers=p.layers)
    ours = OURS[p.cell](p.H, p.H, num_layers=p.layers)
    ours.load_state_dict(theirs.state_dict())
    calls = [call_of(layer, p) for layer in (theirs, ours)]
    with MODES[p.mode]():
        counts = [max(1, int(turn / min(seconds(c, 2) for _ in range(3)))) for c in calls]
        found = []
        for number in range(rounds):  # who is first changes
            order = (0, 1) if number % 2 else (1, 0)
            times = {k: seconds(calls[k], counts[k]) for k in order}
            found.append((times[0], times[1]))
    low, middle, high = statistics.quantiles((t / o for t, o in found), n=4)
    torch_s, ours_s = (statistics.median(column) for column in zip(*found, strict=True))
    return Found(p, torch_s * 1e6, ours_s * 1e6, middle, (high - low) / 2)


def grid(args: argparse.Namespace) -> Iterator[Point]:
    for values in product(args.cells, args.modes, args.threads, args.layers, args.T, args.B, args.H, args.states, args.packed):
        yield Point(*values)


def report(found: list[Found]) -> None:
    for cell, mode, threads in sorted({(f.point.cell, f.point.mode, f.point.threads) for f in found}):
        mine = [f for f in found if (f.point.cell, f.point.mode, f.point.threads) == (cell, mode, threads)]
        worst = min(mine, key=lambda f: f.ratio)
        slower = sum(f.ratio < 1 for f in mine)
        mean = statistics.geometric_mean(f.ratio for f in mine)
        q = worst.point
        print(
            f"{cell:4} {mode:9} {threads} thread(s): geometric mean {mean:.2f}, slower at {slower} of {len(mine)}, "
            f"worst {worst.ratio:.2f} at {q.T},{q.B},{q.H},{q.H}, {q.layers} layer(s)"
        )


def parse() -> argparse.Namespace:
    numbers = lambda s: [int(x) for x in s.split(",")]
    words = lambda s: s.split(",")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=words, default=list(OURS))
    parser.add_argument("--modes", type=words, default=list(MODES))
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--layers", type=numbers, default=[1, 2])
    parser.add_argument("--T", type=numbers, default=[1, 2, 5, 20])
    parser.add_argument("--B", type=numbers, default=[1, 8, 64])
    parser.add_argument("--H", type=numbers, default=[16, 64, 256, 512])
    parser.add_argument("--states", type=words, default=["zeros"], help="zeros, given, or both")
    parser.add_argument("--packed", type=words, default=["no"], help="no, ragged, alike, or several of them")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=float, default=0.002, help="seconds of one turn, at least one call")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    args, found = parse(), []
    for p in grid(args):
        found.append(f := measure(p, args.rounds, args.turn))
        packed = "" if p.packed == "no" else p.packed
        print(
            f"{p.cell:4} {p.mode:9} {p.threads} {p.layers} {f'{p.T},{p.B},{p.H},{p.H}':14} {p.state:5} {packed:6} "
            f"torch {f.torch:9.1f}  ours {f.ours:9.1f}  "
            f"×{f.ratio:.2f} ±{f.spread:.2f}{'  <<' if f.ratio < 1 else ''}",
            flush=True,
        )
    report(found)
    if args.json:
        rows = [asdict(f.point) | {k: round(v, 3) for k, v in asdict(f).items() if k != "point"} for f in found]
        args.json.write_text(
            json.dumps({"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "calls": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
