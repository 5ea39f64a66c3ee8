"""What does it cost to see the gradient through time, in forward + backward passes of the same batch on the same threads?

    python benchmarks/flow.py                            T = 200, B = 16, I = H = 128, all 200 lags; and the hooks at T = 50
    python benchmarks/flow.py --cells gru --threads 1 --json results.json
    python benchmarks/flow.py --threads 1 --clock cpu    where other processes want the same cores

"map" is the adjoint map alone; "+ inputs" with the adjoints of x; "+ lags" the map with every parameter's g^(k), its norms and the bias
curve of sliding windows; "whole" is ``gradient_flow`` as it is called, the other windows, Jacobians, exponents, gates and verdict too.
Contestants are interleaved round by
round; a ratio is the median over rounds of the two times measured next to each other. Counting multiplications, the map needs
T/12 forward + backward passes and T/4 with the lags: 17 and 50. Memory is the growth of the peak in a process of its own.

"hooks" is what people write by hand: torch's cell in a loop, and for every loss a backward pass with retain_graph that leaves its norm at
every step behind. It finds the map alone, and its numbers are compared with ours.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import throughtime as tt
from throughtime.data import Batch
from throughtime.models import Head, SequenceModel, Vectors

CELLS = {"simple": tt.cells.Elman(), "gru": tt.cells.GRU(), "lstm": tt.cells.LSTM()}
TORCH = {"simple": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}
OUTPUTS = 64
Sizes = tuple[int, int, int, int]  # T, B, I, H
BARE = {"jacobians": None, "gates": False}
PARTS = {
    "map": {"parameters": False, "inputs": False, **BARE},
    "+ inputs": {"parameters": False, **BARE},
    "+ lags": {"inputs": False, "windows": False, **BARE},
    "+ both": {"windows": False, **BARE},
    "whole": {},
}


def problem(cell: str, sizes: Sizes) -> tuple[SequenceModel, Batch]:
    T, B, I, H = sizes
    torch.manual_seed(0)
    model = SequenceModel(Vectors(I), tt.nn.Recurrence(CELLS[cell], I, H), Head(H, OUTPUTS))
    return model, Batch(torch.randn(T, B, I), torch.randint(OUTPUTS, (T, B)))


def full_gradient(model: SequenceModel, batch: Batch) -> None:
    model.zero_grad()
    tt.gradients.FullBPTT().accumulate(model, batch)


def by_hooks(cell: str, model: SequenceModel, batch: Batch) -> torch.Tensor:
    """(T, K) mean over streams of ‖∂L_t/∂h_{t−k}‖, by one backward pass a loss. An LSTM's c is left out, as people do."""
    T, B = batch.T, batch.B
    own = model.recurrence
    layer = TORCH[cell](own.input_size, own.hidden_size)
    layer.load_state_dict({name.removesuffix("_l0"): p for name, p in own.state_dict().items()})
    state = torch.zeros(B, own.hidden_size)
    pair = (state, state)
    hs, arrived = [], {}
    for t in range(T):
        if cell == "lstm":
            pair = layer(batch.inputs[t], pair)
            state = pair[0]
        else:
            state = layer(batch.inputs[t], state)
        state.register_hook(lambda grad, t=t: arrived.__setitem__(t, grad.norm(dim=1).mean()))
        hs.append(state)
    found = torch.full((T, T), torch.nan)
    for t in range(T):
        loss = torch.nn.functional.cross_entropy(model.head(hs[t]), batch.targets[t], reduction="sum")
        arrived.clear()
        loss.backward(retain_graph=True)
        for u, norm in arrived.items():
            found[t, t - u] = norm
    return found


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Clock = Callable[[], float]


def seconds(call: Callable[[], object], clock: Clock) -> float:
    start = clock()
    call()
    return clock() - start


def ratios(
    base: Callable[[], object], others: dict[str, Callable[[], object]], rounds: int, clock: Clock
) -> tuple[float, dict[str, list[float]]]:
    """Seconds of the base, and each contestant's ratios to the base measured right before and after it, round by round."""
    for call in (base, *others.values()):
        call()
    found: dict[str, list[float]] = {name: [] for name in others}
    times = []
    for _ in range(rounds):
        for name, call in others.items():
            before = [seconds(base, clock) for _ in range(5)]
            spent = seconds(call, clock)
            near = statistics.median(before + [seconds(base, clock) for _ in range(5)])
            found[name].append(spent / near)
            times.append(near)
    return statistics.median(times), found


def peak_growth(cell: str, sizes: Sizes, part: str) -> float:
    """MB that one measurement adds to the peak of a process that has trained a step."""
    code = (
        "import re, sys; sys.path.insert(0, sys.argv[1]); import flow; import throughtime as tt\n"
        f"m, b = flow.problem({cell!r}, {sizes!r}); flow.full_gradient(m, b)\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        f"before = peak(); tt.gradient_flow(m, b, **flow.PARTS[{part!r}]); print((peak() - before) / 1024)"
    )
    told = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], check=True, capture_output=True, text=True)
    return float(told.stdout)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default="simple,gru,lstm")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--sizes", default="200,16,128,128", help="T,B,I,H")
    parser.add_argument("--hooks", default="50,16,128,128", help="T,B,I,H of the loop with hooks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def against_training(cell: str, sizes: Sizes, rounds: int, clock: Clock) -> dict:
    """Each part in forward + backward passes."""
    model, batch = problem(cell, sizes)
    calls = {name: lambda o=options: tt.gradient_flow(model, batch, **o) for name, options in PARTS.items()}
    base, found = ratios(lambda: full_gradient(model, batch), calls, rounds, clock)
    return {"base_ms": base * 1e3, "ratio": {name: statistics.median(r) for name, r in found.items()}, "ratios": found}


def against_hooks(cell: str, sizes: Sizes, rounds: int, clock: Clock) -> dict:
    """The map by this package and by hand; and how far their numbers are apart, where hooks see the whole state."""
    model, batch = problem(cell, sizes)
    calls = {"map": lambda: tt.gradient_flow(model, batch, **PARTS["map"]), "hooks": lambda: by_hooks(cell, model, batch)}
    base, found = ratios(lambda: full_gradient(model, batch), calls, rounds, clock)
    ratio = {name: statistics.median(r) for name, r in found.items()}
    row = {"sizes": sizes, "base_ms": base * 1e3, "ratio": ratio, "times_as_long": ratio["hooks"] / ratio["map"]}
    if cell != "lstm":
        A = tt.gradient_flow(model, batch, **PARTS["map"]).adjoint.joint
        row["difference"] = float(((by_hooks(cell, model, batch) - A).abs() / A.nanmean(0)).nan_to_num().max())
    return row


def main() -> None:
    args = parse()
    sizes, small = (tuple(map(int, s.split(","))) for s in (args.sizes, args.hooks))
    rows: list[dict] = []
    for cell in args.cells.split(","):
        for threads in map(int, args.threads.split(",")):
            torch.set_num_threads(threads)
            row = {"cell": cell, "threads": threads, "sizes": sizes} | against_training(cell, sizes, args.rounds, CLOCKS[args.clock])
            told = "  ".join(f"{name} ×{r:.1f}" for name, r in row["ratio"].items())
            print(f"{cell:6} {threads} thread(s), base {row['base_ms']:6.1f} ms: {told}", flush=True)
            row["hooks"] = hooks = against_hooks(cell, small, max(1, args.rounds // 2), CLOCKS[args.clock])
            told = f"map ×{hooks['ratio']['map']:.1f}, hooks ×{hooks['ratio']['hooks']:.1f}: {hooks['times_as_long']:.1f} times as long"
            far = f"; greatest difference, relative to the lag's mean, {hooks['difference']:.1e}" if "difference" in hooks else ""
            print(f"       at T = {small[0]}: {told}{far}", flush=True)
            rows.append(row)
        rows[-1]["memory_mb"] = {part: peak_growth(cell, sizes, part) for part in ("map", "+ both", "whole")}
        print(f"{cell:6} peak memory: " + "  ".join(f"{part} {mb:.0f} MB" for part, mb in rows[-1]["memory_mb"].items()), flush=True)
    if args.json:
        machine = platform.processor() or platform.machine()
        args.json.write_text(json.dumps({"machine": machine, "clock": args.clock, "torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
