"""Where a kernel call's time goes against its floor: for each phase, operations, bytes, the time they need at least, the time taken.

A phase is found by leaving it out: forward with the input half ready-made has no ①; backward without dx, and with the input half
ready-made, has no dx, no dW. The floor is the larger of operations over the FMA peak and bytes over the bandwidth of memory; bytes are
those of the arrays that the phase must read or write once (weights stay in cache).

    python benchmarks/roofline.py [--sizes 100,32,256,256] [--cells simple,gru,lstm] [--bandwidth 25e9]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from layers import GATES, fma_peak

from throughtime.cells import GRU, LSTM, Elman
from throughtime.kernels import Parameters, RecurrentParameters, _fast
from throughtime.kernels._types import FORWARD

CELLS = {"simple": Elman(), "gru": GRU(), "lstm": LSTM()}


def runs(cell: str, T: int, B: int, I: int, H: int) -> dict[str, Callable[[], object]]:
    """The calls whose differences are the phases."""
    c, G = CELLS[cell], GATES[cell]
    xs, dhs, state = torch.randn(T, B, I), torch.randn(T, B, H), tuple(torch.zeros(B, H) for _ in range(CELLS[cell].states))
    p = Parameters(torch.randn(G, H, I) / I**0.5, torch.randn(G, H, H) / H**0.5, torch.zeros(G, H), torch.zeros(G, H))
    wx = torch.einsum("tbi,ghi->tbgh", xs, p.W).contiguous()
    given = RecurrentParameters(p.R, p.b_hh)
    run, run_given = _fast.forward(c, xs, state, p, threads=1), _fast.forward(c, wx, state, given, threads=1)
    back = lambda x, q, r, **options: _fast.backward(c, x, q, r, dhs, None, FORWARD, threads=1, **options)
    return {
        "forward": lambda: _fast.forward(c, xs, state, p, threads=1),
        "forward given": lambda: _fast.forward(c, wx, state, given, threads=1),
        "backward": lambda: back(xs, p, run),
        "backward no dx": lambda: back(xs, p, run, needs_dxs=False),
        "backward given": lambda: back(wx, given, run_given, needs_dxs=False),
    }


def milliseconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Medians, taken in turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            found[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(times) for name, times in found.items()}


def phases(cell: str, T: int, B: int, I: int, H: int) -> list[tuple[str, float, float, float]]:
    """(phase, operations, bytes, milliseconds)."""
    ms, N, G, S = milliseconds(runs(cell, T, B, I, H), 15), T * B, GATES[cell], CELLS[cell].states
    kept = {"simple": 0, "gru": 4, "lstm": 5}[cell]  # numbers a unit that forward keeps for backward, at most
    product = lambda K: 2.0 * N * G * H * K
    return [
        ("① wx = W x + b", product(I), 4.0 * N * I, ms["forward"] - ms["forward given"]),
        ("② R h, the cell", product(H), 4.0 * N * H * (1 + kept), ms["forward given"]),
        ("④ Rᵀ d(rh), the cell; dR", 2 * product(H), 4.0 * N * H * (3 + kept + S), ms["backward given"]),
        ("⑤ dW", product(I), 4.0 * N * I, ms["backward no dx"] - ms["backward given"]),
        ("⑤ dx", product(I), 4.0 * N * I, ms["backward"] - ms["backward no dx"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="100,32,256,256", help="T,B,I,H")
    parser.add_argument("--cells", default="simple,gru,lstm")
    parser.add_argument("--bandwidth", type=float, default=25e9, help="bytes a second that one core reads from memory")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        peak = fma_peak(1, Path(folder))
    print(f"FMA peak {peak / 1e9:.0f} GF/s on one core; T,B,I,H = {chosen.sizes}")
    for cell in chosen.cells.split(","):
        print(f"{cell:8}{'phase':28}{'GF':>7}{'MB':>7}{'floor ms':>10}{'ms':>8}{'share':>8}")
        for phase, operations, size, ms in phases(cell, *map(int, chosen.sizes.split(","))):
            floor = 1e3 * max(operations / peak, size / chosen.bandwidth)
            print(f"{'':8}{phase:28}{operations / 1e9:7.2f}{size / 1e6:7.1f}{floor:10.2f}{ms:8.2f}{floor / ms:8.2f}")


if __name__ == "__main__":
    main()
