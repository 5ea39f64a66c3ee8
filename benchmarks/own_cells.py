"""Cells of one's own against the built-in cell with as many gates, a loop by hand, that loop under torch.compile, and JAX.

One thread, float32, forward and backward with all gradients; ours are layers, ``nn.Recurrence``, whose R is free. Every round times each
candidate once, in turn, so that a busy moment meets all alike; a number is the median of a candidate's times. JAX, where it is installed,
runs jit(grad(scan)) in a process of its own, for the cells of ``JAX_STEPS``. Under torch.compile run the whole loop ("compiled") and a
loop over the compiled step ("compiled step"), each of which is left out where its first call takes longer than ``--compiled``; what it took
is in the row either way.

The share of a cell without R is that of its floor: the least time of its three products of weights, at the peak of the machine's
multiply-adds, or of the arrays that must be read or written once, at the bandwidth of a copy, whichever is longer.

    OMP_NUM_THREADS=1 python benchmarks/own_cells.py --seconds 60 --cells mgu cfc --compiled 60 --json rows.json

The whole table takes half an hour. ``--add`` keeps the rows of other cells and sizes that the file has, so that it can be taken in parts.
"""

import argparse
import json
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import torch
from layers import fma_peak
from torch import Tensor, nn
from torch.nn.utils import parametrize

from throughtime.bench._jax import STEPS, Jax, Step, installed
from throughtime.cells import GRU, LSTM, AbstractCell, Elman, zoo
from throughtime.kernels import generated, serves, set_threads
from throughtime.nn import Recurrence

SIZES = (
    (100, 1, 32, 32), (100, 1, 128, 128), (1000, 1, 32, 64), (100, 32, 32, 64), (100, 32, 128, 128), (100, 32, 256, 256),
    (1000, 16, 64, 128), (100, 64, 512, 512), (50, 64, 1024, 1024),
)  # fmt: skip
LARGE = 4e9  # multiply-adds of a pass: beyond it a candidate takes seconds

FMA, COPY = "FMA peak, GF/s", "copy, GB/s"

Run = Callable[[], float | None]  # the seconds, where the candidate measures itself

JAX_STEPS = {
    "mgu": STEPS["mgu"],
    "ugrnn": Step("g, c = sig(wx[:, 0] + rh[:, 0]), jnp.tanh(wx[:, 1] + rh[:, 1]); s = (g * s[0] + (1 - g) * c,)"),
    "coupled-lstm": Step(
        "a = wx + rh; f = sig(a[:, 0]); c = f * s[1] + (1 - f) * jnp.tanh(a[:, 1]); s = (sig(a[:, 2]) * jnp.tanh(c), c)", states=2
    ),
    "cfc": Step("a = wx + rh; t = sig(a[:, 2]); s = ((1 - t) * jnp.tanh(a[:, 0]) + t * jnp.tanh(a[:, 1]),)"),
    "ctrnn": Step("a = sig(v[0]); s = ((1 - a) * s[0] + a * jnp.tanh(wx[:, 0] + rh[:, 0]),)"),
    "indrnn": Step("s = (jax.nn.relu(wx[:, 0] + v[0] * s[0]),)"),
    "mingru": Step("z = sig(wx[:, 0]); s = ((1 - z) * s[0] + z * wx[:, 1],)"),
    "minlstm": Step("f, i = sig(wx[:, 0]), sig(wx[:, 1]); s = ((f * s[0] + i * wx[:, 2]) / (f + i),)"),
    "elstm": Step(
        "f = sig(wx[:, 0] + v[0] * s[1]); c = f * s[1] + (1 - f) * jnp.tanh(wx[:, 1] + v[1] * s[1]); s = (sig(wx[:, 2] + v[2] * c) * c, c)",
        states=2,
    ),
}


def built_in(gates: int) -> AbstractCell:
    """The cell with a kernel by hand that has as many gates; GRU for two, of which it does more."""
    return {1: Elman(), 4: LSTM()}.get(gates, GRU())


def leaves_of(layer: Recurrence, xs: Tensor) -> list[Tensor]:
    """What wants gradients; R only where there is one."""
    return [xs, *(p for p in layer.parameters() if p.numel())]


def by_kernel(layer: Recurrence, xs: Tensor, dhs: Tensor) -> Run:
    """The package."""
    leaves = leaves_of(layer, xs)

    def run() -> None:
        torch.autograd.grad(layer(xs)[0], leaves, dhs)

    return run


def by_hand(layer: Recurrence, xs: Tensor, dhs: Tensor, compiled: str = "") -> Run:
    """A careful loop: one product for all inputs, flat weights, the step's own operations."""
    cell, H = layer.cell, dhs.shape[2]
    G, rows, early = cell.gates, cell.rh_gates, cell.rh_gates - cell.late_gates
    state = tuple(xs.new_zeros(xs.shape[1], H) for _ in range(cell.states))
    leaves = leaves_of(layer, xs)
    step = torch.compile(cell.step) if compiled == "compiled step" else cell.step

    def loop(xs: Tensor, W: Tensor, R: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        wxs, s, hs = nn.functional.linear(xs, W, b_ih).unflatten(2, (G, H)), state, []
        first, last, b_first, b_last = R[: early * H], R[early * H :], b_hh[: early * H], b_hh[early * H :]
        for wx in wxs.unbind(0):
            rh = wx[:, :0] if rows == 0 else nn.functional.linear(s[0], first, b_first).unflatten(1, (early, H))
            if early < rows:
                rh = torch.cat((rh, nn.functional.linear(cell.between(wx, rh, s), last, b_last).unflatten(1, (rows - early, H))), 1)
            s = step(wx, rh, s)
            hs.append(s[0])
        return torch.stack(hs)

    loop = torch.compile(loop) if compiled == "compiled" else loop

    def run() -> None:
        torch.autograd.grad(loop(xs, *layer.stored_parameters_of(0)), leaves, dhs)

    return run


def by_jax(step: Step, layer: Recurrence, xs: Tensor, dhs: Tensor, folder: Path) -> Jax:
    """jit(grad(scan)) in a process bound to one core."""
    own = [v.detach() for v in layer.cell.parameters()] if isinstance(layer.cell, nn.Module) else []
    arrays = {"xs": xs, "dhs": dhs} | layer.parameters_of(0)._asdict() | ({"v": torch.stack(own)} if own else {})
    return Jax(step, {name: value.detach().numpy() for name, value in arrays.items()}, 1, folder)


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
    """What is timed at one size, and what torch.compile took for its first calls."""

    runs: dict[str, Run]
    first_calls: dict[str, float | str]


def candidates(name: str, cell: AbstractCell, sizes: tuple[int, ...], chosen: argparse.Namespace, until: ExitStack) -> Candidates:
    """All that ``chosen`` asks for; processes and folders are there ``until`` it ends."""
    T, B, I, H = sizes
    xs, dhs = torch.randn(T, B, I, requires_grad=True), torch.randn(T, B, H)
    layer, peer = Recurrence(cell, I, H), Recurrence(built_in(cell.gates), I, H)
    if parametrize.is_parametrized(layer):  # Dale's law is computed before the recurrence, by every candidate alike
        parametrize.remove_parametrizations(layer, "weight_hh_l0")
    runs = {"own": by_kernel(layer, xs, dhs), "built in": by_kernel(peer, xs, dhs), "by hand": by_hand(layer, xs, dhs)}
    first_calls = {}
    for how in ("compiled step", "compiled") if chosen.compiled else ():
        run = by_hand(layer, xs, dhs, how)
        first_calls[how] = first_call(chosen.compiled, run)
        if isinstance(first_calls[how], float):
            runs[how] = run
    if installed() and name in JAX_STEPS:
        folder = Path(until.enter_context(tempfile.TemporaryDirectory()))
        jax = until.enter_context(closing(by_jax(JAX_STEPS[name], layer, xs, dhs, folder)))
        runs["JAX"] = lambda: jax.seconds(1)
    return Candidates(runs, first_calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of it, about")
    parser.add_argument("--cells", nargs="*", default=list(zoo.NAMES))
    parser.add_argument(
        "--compiled", type=float, metavar="SECONDS", help="also the loop under torch.compile, where it compiles within these"
    )
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
            with ExitStack() as until:
                timed = candidates(name, cell, (T, B, I, H), chosen, until)
                ms = measure(timed.runs, each)
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
