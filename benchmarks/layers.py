"""How fast is one recurrent layer, forward and backward: these kernels, this package's layer, torch.nn and JAX.

    python benchmarks/layers.py                          the sizes of the table, 1 and 2 threads
    python benchmarks/layers.py --sizes 100,32,128,128   T,B,I,H; repeat as often as you like
    python benchmarks/layers.py --cells gru --threads 1 --json results.json

One run, the contestants interleaved round by round, fresh outputs each call; medians, with the quartiles' half spread. JAX takes its
threads when it starts, so it runs in a process of its own, driven round by round through a pipe. The FMA peak is measured in the
same run, by a loop of independent multiply-adds; "share" is the share of it that forward + backward reach, counting
6·T·B·G·H·(I + H) operations. Run it on a quiet machine: a loaded one is detected by the spread, not corrected. Where no quiet machine is to
be had, --by low compares the lowest deciles of all contestants; say so beside the figures.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from throughtime.bench import _layers
from throughtime.bench._jax import STEPS, Jax

SIZES = [
    (100, 1, 32, 32),
    (100, 1, 128, 128),
    (1000, 1, 32, 64),
    (100, 32, 32, 64),
    (100, 32, 128, 128),
    (100, 32, 256, 256),
    (1000, 16, 64, 128),
    (100, 64, 512, 512),
    (50, 64, 1024, 1024),
]
GATES = {"simple": 1, "gru": 3, "lstm": 4}

Sizes = tuple[int, int, int, int]  # T, B, I, H
Call = Callable[[], None]  # one forward + backward


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant at one size."""

    median: float
    spread: float  # half the distance between the quartiles
    low: float  # the lowest decile: what a machine shared with others shows of each

    @staticmethod
    def of(seconds: list[float]) -> "Timing":
        lower, median, upper = statistics.quantiles(seconds, n=4) if len(seconds) > 2 else (min(seconds), min(seconds), max(seconds))
        return Timing(median, (upper - lower) / 2, sorted(seconds)[len(seconds) // 10])


def arrays(cell: str, sizes: Sizes) -> dict[str, torch.Tensor]:
    """The layer's inputs: the same for every contestant."""
    return _layers.arrays(GATES[cell], sizes)


def kernel(cell: str, sizes: Sizes, threads: int) -> Call:
    """The extension, called from Python on arrays."""
    from throughtime import _kernels

    a, S = arrays(cell, sizes), 2 if cell == "lstm" else 1
    T, B, _, H = sizes
    kind = {"simple": _kernels.ELMAN_TANH, "gru": _kernels.GRU, "lstm": _kernels.LSTM}[cell]
    state, weights = (torch.zeros(B, H),) * S, (a["W"], a["R"], a["b_ih"], a["b_hh"])
    layer = (kind, a["xs"], state, weights, None, None, None, False, "fast", threads, None)
    size = _kernels.residuals_size(kind, (T, B, H), "fast", False)

    def call() -> None:
        empty = torch.empty
        hs, last, residuals = empty(T, B, H), tuple(empty(B, H) for _ in range(S)), empty(size) if size else None
        _kernels.forward(layer, (hs, last, residuals))
        dxs, *dweights = (torch.empty_like(x) for x in (a["xs"], *weights))
        dstate = tuple(empty(B, H) for _ in range(S))
        _kernels.backward(layer, (hs, residuals), (a["dhs"], None, None), (dxs, dstate, tuple(dweights), None))

    return call


def torch_layer(cell: str, sizes: Sizes, threads: int) -> Call:
    _, _, I, H = sizes
    layer = {"simple": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](I, H)
    return _layers.both_passes(layer, arrays(cell, sizes))


def own_layer(cell: str, sizes: Sizes, threads: int) -> Call:
    """This package's layer as a PyTorch user calls it: module, autograd, backward."""
    import throughtime as tt

    _, _, I, H = sizes
    layer = tt.nn.Recurrence({"simple": tt.cells.Elman(), "gru": tt.cells.GRU(), "lstm": tt.cells.LSTM()}[cell], I, H)
    return _layers.both_passes(layer, arrays(cell, sizes))


def seconds(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def operations(cell: str, sizes: Sizes) -> float:
    T, B, I, H = sizes
    return 6.0 * T * B * GATES[cell] * H * (I + H)


PEAK = r"""
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
typedef float V __attribute__((vector_size(BYTES)));
static void loop(long n, float* out) {
  V acc[24], a = a - a + 1.000001f, b = a - a + 1e-9f;
  for (auto& x : acc) x = a;
  for (long i = 0; i < n; ++i) {
#pragma GCC unroll 24
    for (int k = 0; k < 24; ++k) acc[k] = acc[k] * a + b;
  }
  for (auto& x : acc) *out += x[0];
}
int main(int, char** argv) {
  const int threads = atoi(argv[1]);
  const long n = 2000000;
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    std::vector<float> out(16 * threads);
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t) all.emplace_back(loop, n, &out[16 * t]);
    for (auto& t : all) t.join();
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double rate = 2.0 * 24 * (BYTES / 4) * n * threads / s;
    best = rate > best ? rate : best;
  }
  printf("%g\n", best);
}
"""


def fma_peak(threads: int, folder: Path) -> float:
    """Operations a second of a loop in registers; NaN without a compiler."""
    source, program = folder / "peak.cpp", folder / "peak"
    source.write_text(PEAK)
    wide = "avx512f" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else False
    command = ["g++", "-O3", "-funroll-loops", "-march=native", "-ffp-contract=fast", f"-DBYTES={64 if wide else 32}"]
    try:
        subprocess.run([*command, source, "-o", program, "-pthread"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return math.nan
    return float(subprocess.run([program, str(threads)], check=True, capture_output=True, text=True).stdout)


def contest(contestants: dict[str, Callable[[int], float]], budget: float) -> dict[str, Timing]:
    """Interleaved rounds: each contestant in turn for about the same time, until `budget` seconds are spent."""
    once = {name: min(measure(1), measure(1)) for name, measure in contestants.items()}
    per_turn = budget / (9 * len(contestants))
    calls = {name: max(1, min(2000, int(per_turn / s))) for name, s in once.items()}
    found: dict[str, list[float]] = {name: [] for name in contestants}
    end, rounds = time.perf_counter() + budget, 0
    while rounds < 5 or (time.perf_counter() < end and rounds < 25):
        for name, measure in contestants.items():
            found[name].append(measure(calls[name]))
        rounds += 1
    return {name: Timing.of(s) for name, s in found.items()}


def measure(cell: str, sizes: Sizes, threads: int, args: argparse.Namespace, folder: Path) -> dict[str, Timing]:
    torch.set_num_threads(threads)
    calls: dict[str, Callable[[int], float]] = {}
    for name, make in {"kernel": kernel, "layer": own_layer, "torch": torch_layer}.items():
        if name in args.contestants:
            call = make(cell, sizes, threads)
            calls[name] = lambda n, call=call: seconds(call, n)
    given = {name: value.numpy() for name, value in arrays(cell, sizes).items()}
    jax = Jax(STEPS[{"simple": "rnn"}.get(cell, cell)], given, threads, folder) if "jax" in args.contestants else None
    if jax:
        calls["jax"] = jax.seconds
    try:
        return contest(calls, args.seconds)
    finally:
        if jax:
            jax.close()


def geometric_mean(values: Iterable[float]) -> float:
    return statistics.geometric_mean(list(values))


def report(cell: str, rows: list[dict], by: str) -> None:
    for peer in ("torch", "jax"):
        for mine in ("kernel", "layer"):
            ratios = [r["seconds"][peer][by] / r["seconds"][mine][by] for r in rows if {peer, mine} <= r["seconds"].keys()]
            if ratios:
                print(f"  {cell}: {mine} against {peer}: worst {min(ratios):.2f}, geometric mean {geometric_mean(ratios):.2f}")


def line(cell: str, sizes: Sizes, threads: int, found: dict[str, Timing], peak: float, by: str) -> str:
    first, at = next(iter(found)), {name: getattr(t, by) for name, t in found.items()}
    rate = operations(cell, sizes) / at[first]
    parts = [f"{cell:6} {','.join(map(str, sizes)):17} {threads}"]
    parts += [f"{name} {at[name] * 1e6:9.1f} ±{t.spread / t.median:4.0%}" for name, t in found.items()]
    parts += [f"×{at[peer] / at[first]:.2f} {peer}" for peer in ("torch", "jax") if peer in found and peer != first]
    return "  ".join([*parts, f"{rate / 1e9:6.1f} GF/s", f"share {rate / peak:.2f}"])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", action="append", help="T,B,I,H; in place of the table's")
    parser.add_argument("--cells", default="simple,gru,lstm")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--contestants", default="kernel,layer,torch,jax")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each size and number of threads")
    parser.add_argument("--by", default="median", choices=("median", "low"), help="which statistic is printed and compared")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.sizes = [tuple(map(int, s.split(","))) for s in args.sizes] if args.sizes else SIZES
    args.cells, args.contestants = args.cells.split(","), args.contestants.split(",")
    args.threads = [int(t) for t in args.threads.split(",")]
    return args


def main() -> None:
    args = parse()
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        peaks = {threads: fma_peak(threads, folder) for threads in args.threads}
        print("FMA peak: " + ", ".join(f"{p / 1e9:.0f} GF/s on {t} threads" for t, p in peaks.items()) + "; µs, median ± half spread")
        for cell in args.cells:
            for threads in args.threads:
                for sizes in args.sizes:
                    found = measure(cell, sizes, threads, args, folder)
                    print(line(cell, sizes, threads, found, peaks[threads], args.by), flush=True)
                    rows.append(
                        {"cell": cell, "sizes": sizes, "threads": threads, "seconds": {n: asdict(t) for n, t in found.items()},
                         "share": operations(cell, sizes) / getattr(next(iter(found.values())), args.by) / peaks[threads]}
                    )  # fmt: skip
            report(cell, [r for r in rows if r["cell"] == cell], args.by)
    if args.json:
        machine = platform.processor() or platform.machine()
        args.json.write_text(
            json.dumps({"machine": machine, "torch": torch.__version__, "by": args.by, "peaks": peaks, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
