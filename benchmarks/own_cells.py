"""Cells of one's own against the built-in cell with as many gates, a loop by hand, that loop under torch.compile, and JAX.

One thread, float32, forward and backward with all gradients. Every round times each candidate once, in turn, so that a busy moment meets
all alike; a number is the median of a candidate's times. JAX runs jit(grad(scan)) in a process of its own, by the Python that ``--jax``
names, for the cells of ``JAX_STEPS``. Under torch.compile run the whole loop ("compiled") and a loop over the compiled step ("compiled
step"), each of which is left out where its first call takes longer than ``--compiled``; what it took is in the row either way.

The share of a cell without R is that of its floor: the least time of its three products of weights, at the peak of the machine's
multiply-adds, or of the arrays that must be read or written once, at the bandwidth of a copy, whichever is longer.

    OMP_NUM_THREADS=1 python benchmarks/own_cells.py --seconds 60 --cells mgu cfc --compiled 60 --jax python --json rows.json

The whole table takes half an hour. ``--add`` keeps the rows of other cells and sizes that the file has, so that it can be taken in parts.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from layers import fma_peak
from torch import Tensor, nn

from throughtime.cells import GRU, LSTM, AbstractCell, Elman, zoo
from throughtime.kernels import Parameters, generated, recurrence, serves, set_threads

SIZES = (
    (100, 1, 32, 32), (100, 1, 128, 128), (1000, 1, 32, 64), (100, 32, 32, 64), (100, 32, 128, 128), (100, 32, 256, 256),
    (1000, 16, 64, 128), (100, 64, 512, 512), (50, 64, 1024, 1024),
)  # fmt: skip
LARGE = 4e9  # multiply-adds of a pass: beyond it a candidate takes seconds

FMA, COPY = "FMA peak, GF/s", "copy, GB/s"

Run = Callable[[], float | None]  # the seconds, where the candidate measures itself

JAX_STEPS = {
    "mgu": "f = sig(wx[:, 0] + rh[:, 0]); h = (1 - f) * s[0] + f * jnp.tanh(wx[:, 1] + f * rh[:, 1]); s = (h,)",
    "ugrnn": "g, c = sig(wx[:, 0] + rh[:, 0]), jnp.tanh(wx[:, 1] + rh[:, 1]); s = (g * s[0] + (1 - g) * c,)",
    "coupled-lstm": "a = wx + rh; f = sig(a[:, 0]); c = f * s[1] + (1 - f) * jnp.tanh(a[:, 1]); s = (sig(a[:, 2]) * jnp.tanh(c), c)",
    "cfc": "a = wx + rh; t = sig(a[:, 2]); s = ((1 - t) * jnp.tanh(a[:, 0]) + t * jnp.tanh(a[:, 1]),)",
    "ctrnn": "a = sig(v[0]); s = ((1 - a) * s[0] + a * jnp.tanh(wx[:, 0] + rh[:, 0]),)",
    "indrnn": "s = (jax.nn.relu(wx[:, 0] + v[0] * s[0]),)",
    "mingru": "z = sig(wx[:, 0]); s = ((1 - z) * s[0] + z * wx[:, 1],)",
    "minlstm": "f, i = sig(wx[:, 0]), sig(wx[:, 1]); s = ((f * s[0] + i * wx[:, 2]) / (f + i),)",
    "elstm": "f = sig(wx[:, 0] + v[0] * s[1]); c = f * s[1] + (1 - f) * jnp.tanh(wx[:, 1] + v[1] * s[1]); "
    "s = (sig(wx[:, 2] + v[2] * c) * c, c)",
}
JAX = """
import sys, time, jax, jax.numpy as jnp, numpy as np
a, S, sig = np.load(sys.argv[1]), int(sys.argv[2]), jax.nn.sigmoid
xs, dhs, p = a["xs"], a["dhs"], tuple(a[k] for k in ("W", "R", "b_ih", "b_hh", "v"))
def run(xs, p):
    W, R, b_ih, b_hh, v = p
    wxs = jnp.einsum("tbi,ghi->tbgh", xs, W) + b_ih
    def step(s, wx):
        rh = jnp.einsum("bk,ghk->bgh", s[0], R) + b_hh
        STEP
        return s, s[0]
    zero = jnp.zeros(dhs.shape[1:], jnp.float32)
    return jax.lax.scan(step, (zero,) * S, wxs)[1]
both = jax.jit(jax.grad(lambda xs, p: (run(xs, p) * dhs).sum(), (0, 1)))
xs, p = jax.device_put(xs), jax.device_put(p)
jax.block_until_ready(both(xs, p))
for _ in sys.stdin:
    start = time.perf_counter()
    jax.block_until_ready(both(xs, p))
    print(time.perf_counter() - start, flush=True)
"""


class Jax:
    """jit(grad(scan)) in a process bound to one core."""

    def __init__(self, python: str, name: str, cell: AbstractCell, xs: Tensor, parameters: Parameters, dhs: Tensor) -> None:
        import numpy as np

        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name) / "arrays.npz"
        vectors = torch.stack(own(cell)) if own(cell) else torch.zeros(0, dhs.shape[2])
        arrays = {"xs": xs, "dhs": dhs, "v": vectors} | parameters._asdict()
        np.savez(file, **{key: value.detach().numpy() for key, value in arrays.items()})
        core = {min(os.sched_getaffinity(0))}
        self.process = subprocess.Popen(
            [python, "-W", "ignore", "-c", JAX.replace("STEP", JAX_STEPS[name]), str(file), str(cell.states)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"},
            preexec_fn=lambda: os.sched_setaffinity(0, core),
        )  # fmt: skip

    def run(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def built_in(gates: int) -> AbstractCell:
    """The cell with a kernel by hand that has as many gates; GRU for two, of which it does more."""
    return {1: Elman(), 4: LSTM()}.get(gates, GRU())


def weights(cell: AbstractCell, I: int, H: int) -> Parameters:
    """Weights that want gradients."""
    G, rows = cell.gates, cell.rh_gates
    drawn = torch.randn(G, H, I) * I**-0.5, torch.randn(rows, H, H) * 0.7 * H**-0.5, torch.zeros(G, H), torch.zeros(rows, H)
    return Parameters(*(w.requires_grad_() for w in drawn))


def by_kernel(cell: AbstractCell, xs: Tensor, parameters: Parameters, dhs: Tensor) -> Run:
    """The package."""
    state = tuple(xs.new_zeros(xs.shape[1], dhs.shape[2]) for _ in range(cell.states))
    leaves = leaves_of(cell, xs, parameters)

    def run() -> None:
        torch.autograd.grad(recurrence(cell, xs, state, parameters)[0], leaves, dhs)

    return run


def leaves_of(cell: AbstractCell, xs: Tensor, parameters: Parameters) -> list[Tensor]:
    """What wants gradients; R only where there is one."""
    return [xs, *(p for p in parameters if p is not None and p.numel()), *own(cell)]


def own(cell: AbstractCell) -> list[Tensor]:
    """Its learned vectors."""
    return list(cell.parameters()) if isinstance(cell, nn.Module) else []


def by_hand(cell: AbstractCell, xs: Tensor, parameters: Parameters, dhs: Tensor, compiled: str = "") -> Run:
    """A careful loop: one product for all inputs, flat weights, the step's own operations."""
    G, rows, early, H = cell.gates, cell.rh_gates, cell.rh_gates - cell.late_gates, dhs.shape[2]
    state = tuple(xs.new_zeros(xs.shape[1], H) for _ in range(cell.states))
    leaves = leaves_of(cell, xs, parameters)
    step = torch.compile(cell.step) if compiled == "compiled step" else cell.step

    def loop(xs: Tensor, W: Tensor, R: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        wxs = nn.functional.linear(xs, W.flatten(0, 1), b_ih.flatten()).unflatten(2, (G, H))
        flat, bias, s, hs = R.flatten(0, 1), b_hh.flatten(), state, []
        first, last, b_first, b_last = flat[: early * H], flat[early * H :], bias[: early * H], bias[early * H :]
        for wx in wxs.unbind(0):
            rh = wx[:, :0] if rows == 0 else nn.functional.linear(s[0], first, b_first).unflatten(1, (early, H))
            if early < rows:
                rh = torch.cat((rh, nn.functional.linear(cell.between(wx, rh, s), last, b_last).unflatten(1, (rows - early, H))), 1)
            s = step(wx, rh, s)
            hs.append(s[0])
        return torch.stack(hs)

    loop = torch.compile(loop) if compiled == "compiled" else loop

    def run() -> None:
        torch.autograd.grad(loop(xs, *parameters), leaves, dhs)

    return run


def first_call(seconds: float, run: Run) -> float | str:
    """The seconds of a first call, or why there are none. One that does not end in time is given up."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before, start = signal.signal(signal.SIGALRM, give_up), time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        run()
    except Exception as error:  # torch wraps what give_up raises
        return f"given up after {seconds:g} s" if time.perf_counter() - start >= seconds else f"{type(error).__name__}: {error}"[:200]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return time.perf_counter() - start


def machine() -> tuple[float, float]:
    """Operations a second of multiply-adds in registers, and bytes a second of a copy in memory, of one core."""
    with tempfile.TemporaryDirectory() as folder:
        peak = fma_peak(1, Path(folder))
    source, target = torch.randn(32_000_000), torch.empty(32_000_000)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - start)
    return peak, 2 * 4 * len(source) / statistics.median(times)


def share(cell: AbstractCell, sizes: tuple[int, ...], ms: float, of: tuple[float, float]) -> float:
    """The floor of forward and backward over the time taken: W x, dW and dx; xs, hs, dhs and dxs, and what forward keeps, twice."""
    (T, B, I, H), (peak, bandwidth) = sizes, of
    kept = generated.known(cell).source.residuals
    least = max(6 * T * B * cell.gates * H * I / peak, 4 * T * B * (3 * I + (3 + 2 * kept) * H) / bandwidth)
    return 1e3 * least / ms


def measure(runs: dict[str, Run], seconds: float) -> dict[str, float]:
    """Median milliseconds of each."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    end, order = time.perf_counter() + seconds, list(runs.items())
    while time.perf_counter() < end or min(map(len, times.values())) < 3:
        order.append(order.pop(0))  # whoever follows the loop by hand finds its caches empty
        if len(times["own"]) % len(order) == 0:
            order.reverse()
        for name, run in order:
            start = time.perf_counter()
            by_itself = run()
            times[name].append(1e3 * (time.perf_counter() - start if by_itself is None else by_itself))
    return {name: statistics.median(each) for name, each in times.items()}


class Candidates(NamedTuple):
    """What is timed at one size, what torch.compile took for its first calls, and the process to close."""

    runs: dict[str, Run]
    first_calls: dict[str, float | str]
    jax: Jax | None


def candidates(name: str, cell: AbstractCell, sizes: tuple[int, ...], chosen: argparse.Namespace) -> Candidates:
    """All that ``chosen`` asks for."""
    T, B, I, H = sizes
    xs, dhs = torch.randn(T, B, I, requires_grad=True), torch.randn(T, B, H)
    parameters, peer = weights(cell, I, H), built_in(cell.gates)
    runs = {
        "own": by_kernel(cell, xs, parameters, dhs),
        "built in": by_kernel(peer, xs, weights(peer, I, H), dhs),
        "by hand": by_hand(cell, xs, parameters, dhs),
    }
    first_calls = {}
    for how in ("compiled step", "compiled") if chosen.compiled else ():
        run = by_hand(cell, xs, parameters, dhs, how)
        first_calls[how] = first_call(chosen.compiled, run)
        if isinstance(first_calls[how], float):
            runs[how] = run
    jax = Jax(chosen.jax, name, cell, xs, parameters, dhs) if chosen.jax and name in JAX_STEPS else None
    return Candidates(runs | ({} if jax is None else {"JAX": jax.run}), first_calls, jax)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of it, about")
    parser.add_argument("--cells", nargs="*", default=list(zoo.NAMES))
    parser.add_argument(
        "--compiled", type=float, metavar="SECONDS", help="also the loop under torch.compile, where it compiles within these"
    )
    parser.add_argument("--jax", metavar="PYTHON", help="also JAX, by a Python that has it")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--sizes", nargs="*", type=lambda s: tuple(map(int, s.split(","))), help="T,B,I,H of these alone")
    parser.add_argument("--add", action="store_true", help="keep the rows that are in --json's file for other cells and sizes")
    parser.add_argument("--large", action="store_true", help="also the sizes at which a loop by hand takes seconds")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    set_threads(1)
    earlier = json.loads(chosen.json.read_text()) if chosen.add and chosen.json.exists() else {"rows": []}
    peaks = (1e9 * earlier[FMA], 1e9 * earlier[COPY]) if FMA in earlier else machine()
    sizes = chosen.sizes or [s for s in SIZES if chosen.large or 6 * s[0] * s[1] * s[3] * (s[2] + s[3]) < LARGE]
    each = chosen.seconds / (len(sizes) * len(chosen.cells))
    against: dict[str, list[float]] = {}
    rows: list[dict[str, object]] = []
    for name in chosen.cells:
        for T, B, I, H in sizes:
            kind = zoo.NAMES[name]
            cell = kind(H) if issubclass(kind, nn.Module) else kind()
            if (why := serves(cell)) != "fast":
                print(f"{name}: {why}")
            timed = candidates(name, cell, (T, B, I, H), chosen)
            ms = measure(timed.runs, each)
            if timed.jax is not None:
                timed.jax.close()
            rows.append({"cell": name, "T,B,I,H": [T, B, I, H], "ms": ms})
            if timed.first_calls:
                rows[-1]["first call under torch.compile, s"] = timed.first_calls
            if cell.rh_gates == 0:
                rows[-1]["share"] = share(cell, (T, B, I, H), ms["own"], peaks)
            ratios = {peer: took / ms["own"] for peer, took in ms.items() if peer != "own"}
            for peer, ratio in ratios.items():
                against.setdefault(peer, []).append(ratio)
            shown = "  ".join(f"{peer} {ratio:.2f}" for peer, ratio in ratios.items())
            of_floor = f"  share of the floor {rows[-1]['share']:.2f}" if "share" in rows[-1] else ""
            print(f"{name:14} {T},{B},{I},{H}: {ms['own']:.3f} ms; times as long: {shown}{of_floor}", flush=True)
    for peer, ratios in against.items():
        print(f"{peer}: worst {min(ratios):.2f}, geometric mean {statistics.geometric_mean(ratios):.2f}, best {max(ratios):.2f}")
    if chosen.json:
        about = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1}
        about |= {FMA: round(peaks[0] / 1e9, 1), COPY: round(peaks[1] / 1e9, 1)}
        taken = {(row["cell"], *row["T,B,I,H"]) for row in rows}
        kept = [row for row in earlier["rows"] if (row["cell"], *row["T,B,I,H"]) not in taken]
        chosen.json.write_text(json.dumps(about | {"rows": kept + rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
