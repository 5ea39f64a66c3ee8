"""Where a training step's time goes, station by station, on one thread and on two, and how much faster two are.

The stations are timed inside whole steps of the trainer, so that each runs between the others as it does in training: caches and the
threads of torch are as it finds them. "rest" is the step's time outside of every station. One number of threads follows the other round
by round; medians.

    python benchmarks/profile_step.py [--cells rnn,gru,lstm] [--threads 1,2] [--hidden 256] [--plain]
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch

import throughtime as tt
from throughtime.cells import GRU, LSTM, Elman
from throughtime.gradients import TruncatedBPTT
from throughtime.kernels import set_kernels
from throughtime.nn import TableProduct, Trace
from throughtime.training import ClipNorm, step

CELLS = {"rnn": (Elman(), 128), "gru": (GRU(), 256), "lstm": (LSTM(), 256)}
Milliseconds = dict[str, float]


def stations(optimizer: torch.optim.Optimizer) -> list[tuple[str, object, str]]:
    """Name, owner and attribute of each. One that calls another is charged only for what remains."""
    return [
        ("embed", tt.LanguageModel, "enter"),
        ("embed", TableProduct, "__init__"),
        ("recurrence →", Trace, "__init__"),
        ("head and loss", tt.LanguageModel, "loss_and_adjoint"),
        ("recurrence ←", Trace, "backward"),
        ("embed ←", TableProduct, "add"),
        ("embed ←", Trace, "finish"),
        ("clip", ClipNorm, "__call__"),
        ("optimiser", optimizer, "step"),
    ]


class Clock:
    """Milliseconds spent in each station, without those in the stations that it calls."""

    def __init__(self) -> None:
        self.spent: Milliseconds = defaultdict(float)
        self._within: list[float] = []  # of each call that has not ended: the time spent in the stations it called

    def timed(self, name: str, call: Callable) -> Callable:
        def run(*args: object, **options: object) -> object:
            self._within.append(0.0)
            began = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                took = 1e3 * (time.perf_counter() - began)
                self.spent[name] += took - self._within.pop()
                if self._within:
                    self._within[-1] += took

        return run


@contextmanager
def watched(optimizer: torch.optim.Optimizer) -> Iterator[Clock]:
    clock = Clock()
    with ExitStack() as patches:
        for name, owner, attribute in stations(optimizer):
            patches.enter_context(mock.patch.object(owner, attribute, clock.timed(name, getattr(owner, attribute))))
        yield clock


def trainer(cell: tt.cells.AbstractCell, V: int, H: int, T: int, B: int) -> tuple[Callable[[], None], torch.optim.Optimizer]:
    """One step of training, and its optimiser."""
    torch.manual_seed(0)
    model = tt.LanguageModel(V, cell=cell, hidden_size=H)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
    ids, gradient, clips = torch.randint(V, (T + 1, B)), TruncatedBPTT(T), [ClipNorm(1.0)]
    batch, carry = tt.Batch(ids[:-1], ids[1:]), None

    def one_step() -> None:
        nonlocal carry
        carry = step(model, batch, carry, gradient=gradient, clips=clips, optimizer=optimizer).carry

    return one_step, optimizer


def measure(one_step: Callable[[], None], optimizer: torch.optim.Optimizer, steps: int) -> Milliseconds:
    """The mean of each station over some steps, and of the whole step ("step")."""
    for _ in range(2):
        one_step()
    began = time.perf_counter()
    for _ in range(steps):
        one_step()
    whole = 1e3 * (time.perf_counter() - began) / steps
    with watched(optimizer) as clock:
        for _ in range(steps):
            one_step()
    found = {name: ms / steps for name, ms in clock.spent.items()}
    return found | {"rest": max(0.0, whole - sum(found.values())), "step": whole}


def rows(found: dict[int, list[Milliseconds]]) -> Iterator[str]:
    for name in next(iter(found.values()))[0]:
        ms = [statistics.median(of[name] for of in rounds) for rounds in found.values()]
        yield f"  {name:14}" + "".join(f"{m:9.2f}" for m in ms) + (f"   {ms[0] / ms[-1]:5.2f}" if ms[-1] and len(ms) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--cells", default="rnn,gru,lstm")
    parser.add_argument("--hidden", type=int, help="128 for rnn and 256 for the others, if it is left out")
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="of a round")
    parser.add_argument("--plain", action="store_true", help="the plain loop in place of the packed kernels")
    chosen = parser.parse_args()
    set_kernels("plain" if chosen.plain else "fast")
    threads = [int(n) for n in chosen.threads.split(",")]
    for name in chosen.cells.split(","):
        cell, usual = CELLS[name]
        H = chosen.hidden or usual
        one_step, optimizer = trainer(cell, chosen.vocabulary, H, chosen.window, chosen.batch_size)
        found: dict[int, list[Milliseconds]] = {n: [] for n in threads}
        for n in threads * chosen.rounds:
            torch.set_num_threads(n)
            found[n].append(measure(one_step, optimizer, chosen.steps))
        print(
            f"{name} H {H}  V {chosen.vocabulary}  T {chosen.window}  B {chosen.batch_size}; ms a step on {chosen.threads} threads, ratio"
        )
        print("\n".join(rows(found)), flush=True)


if __name__ == "__main__":
    main()
