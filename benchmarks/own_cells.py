"""Cells of one's own against the built-in cell with as many gates, the loop that their owner would write, and that under torch.compile.

One thread, float32, forward and backward with all gradients. Every round times each candidate once, in turn, so that a busy moment meets
all alike; a number is the median of a candidate's times.

    OMP_NUM_THREADS=1 python benchmarks/own_cells.py --seconds 60 --cells mgu cfc --compiled
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from throughtime.cells import GRU, LSTM, AbstractCell, Elman, zoo
from throughtime.kernels import Parameters, recurrence, serves, set_threads

SIZES = (
    (100, 1, 32, 32), (100, 1, 128, 128), (1000, 1, 32, 64), (100, 32, 32, 64), (100, 32, 128, 128), (100, 32, 256, 256),
    (1000, 16, 64, 128), (100, 64, 512, 512), (50, 64, 1024, 1024),
)  # fmt: skip
LARGE = 4e9  # multiply-adds of a pass: beyond it a candidate takes seconds

Run = Callable[[], None]


def built_in(gates: int) -> AbstractCell:
    """The cell with a kernel by hand that has as many gates; GRU for two, of which it does more."""
    return {1: Elman(), 4: LSTM()}.get(gates, GRU())


def weights(cell: AbstractCell, I: int, H: int) -> Parameters:
    """Weights that want gradients."""
    G = cell.gates
    drawn = torch.randn(G, H, I) * I**-0.5, torch.randn(G, H, H) * 0.7 * H**-0.5, torch.zeros(G, H), torch.zeros(G, H)
    return Parameters(*(w.requires_grad_() for w in drawn))


def by_kernel(cell: AbstractCell, xs: Tensor, parameters: Parameters, dhs: Tensor) -> Run:
    """The package."""
    state = tuple(xs.new_zeros(xs.shape[1], dhs.shape[2]) for _ in range(cell.states))
    leaves = [xs, *parameters, *own(cell)]

    def run() -> None:
        torch.autograd.grad(recurrence(cell, xs, state, parameters)[0], leaves, dhs)

    return run


def own(cell: AbstractCell) -> list[Tensor]:
    """Its learned vectors."""
    return list(cell.parameters()) if isinstance(cell, nn.Module) else []


def by_hand(cell: AbstractCell, xs: Tensor, parameters: Parameters, dhs: Tensor, *, compiled: bool = False) -> Run:
    """A careful loop: one product for all inputs, flat weights, the step's own operations."""
    G, H = cell.gates, dhs.shape[2]
    state = tuple(xs.new_zeros(xs.shape[1], H) for _ in range(cell.states))
    leaves = [xs, *parameters, *own(cell)]

    def loop(xs: Tensor, W: Tensor, R: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        wxs = nn.functional.linear(xs, W.flatten(0, 1), b_ih.flatten()).unflatten(2, (G, H))
        flat, bias, s, hs = R.flatten(0, 1), b_hh.flatten(), state, []
        for wx in wxs.unbind(0):
            s = cell.step(wx, nn.functional.linear(s[0], flat, bias).unflatten(1, (G, H)), s)
            hs.append(s[0])
        return torch.stack(hs)

    loop = torch.compile(loop) if compiled else loop

    def run() -> None:
        torch.autograd.grad(loop(xs, *parameters), leaves, dhs)

    return run


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
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def candidates(cell: AbstractCell, sizes: tuple[int, ...], compiled: bool) -> dict[str, Run]:
    """What is timed at one size."""
    T, B, I, H = sizes
    xs, dhs = torch.randn(T, B, I, requires_grad=True), torch.randn(T, B, H)
    parameters, peer = weights(cell, I, H), built_in(cell.gates)
    runs = {
        "own": by_kernel(cell, xs, parameters, dhs),
        "built in": by_kernel(peer, xs, weights(peer, I, H), dhs),
        "by hand": by_hand(cell, xs, parameters, dhs),
    }
    return runs | ({"compiled": by_hand(cell, xs, parameters, dhs, compiled=True)} if compiled else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of it, about")
    parser.add_argument("--cells", nargs="*", default=list(zoo.NAMES))
    parser.add_argument("--compiled", action="store_true", help="also the loop under torch.compile, which takes minutes to compile")
    parser.add_argument("--large", action="store_true", help="also the sizes at which a loop by hand takes seconds")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    set_threads(1)
    sizes = [s for s in SIZES if chosen.large or 6 * s[0] * s[1] * s[3] * (s[2] + s[3]) < LARGE]
    each = chosen.seconds / (len(sizes) * len(chosen.cells))
    against: dict[str, list[float]] = {}
    for name in chosen.cells:
        for T, B, I, H in sizes:
            kind = zoo.NAMES[name]
            cell = kind(H) if issubclass(kind, nn.Module) else kind()
            if (why := serves(cell)) != "fast":
                print(f"{name}: {why}")
            ms = measure(candidates(cell, (T, B, I, H), chosen.compiled), each)
            ratios = {peer: took / ms["own"] for peer, took in ms.items() if peer != "own"}
            for peer, ratio in ratios.items():
                against.setdefault(peer, []).append(ratio)
            shown = "  ".join(f"{peer} {ratio:.2f}" for peer, ratio in ratios.items())
            print(f"{name:14} {T},{B},{I},{H}: {ms['own']:.3f} ms; times as long: {shown}", flush=True)
    for peer, ratios in against.items():
        print(f"{peer}: worst {min(ratios):.2f}, geometric mean {statistics.geometric_mean(ratios):.2f}, best {max(ratios):.2f}")


if __name__ == "__main__":
    main()
