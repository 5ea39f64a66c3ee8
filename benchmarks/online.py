"""What does a second of learning buy? Gradient methods on two streams, each given the same time on the clock.

    python benchmarks/online.py                               both tasks, 30 s a method
    python benchmarks/online.py --seconds 10 --task copy      less
    python benchmarks/online.py --json results.json           the curves too

copy: a word of 2 symbols out of 2, said again after 4 steps (T = 8, a stream starts anew with every word). delayed addition: a stream
without an end, y_t = ½ + ½ x_{t−6} − ¼ x_{t−10}, cut into calls. Everyone has the same leaky network (the one cell for which every
method is defined), the same first weights, the same stream, Adam at the same rate, and one step of the optimiser every `--every` steps of
time. The clock is the processor's and runs only while a method works: on one thread it is that of an idle machine. The loss is the
mean over the last tenth of the calls made so far, lower is better; "nothing remembered" is what one pays who knows the task but has no
memory. One seed: differences of a few per cent mean nothing.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from throughtime.cells import Leaky
from throughtime.data import Batch, copying, delayed_addition
from throughtime.gradients import KFRTRL, RFLO, RTRL, UORO, AbstractGradient, BlockRTRL, SnAp, Symmetric, TruncatedBPTT
from throughtime.models import AbstractModel, Head, LanguageModel, Linear, SequenceModel, SquaredError, Vectors
from throughtime.nn import Recurrence

MARKS = (0.1, 0.25, 0.5, 1.0)  # of the time: where the table reads the curve
DELAY, SIZE, SYMBOLS = 4, 2, 2


@dataclass(frozen=True)
class Task:
    """A stream and a network for it."""

    name: str
    model: Callable[[int], AbstractModel]  # of H
    sequences: Callable[[int, torch.Generator], Batch]  # of B: each one starts anew
    nothing: float  # the loss without memory


def copy_model(H: int) -> AbstractModel:
    return LanguageModel(SYMBOLS + 2, cell=Leaky(0.5), hidden_size=H, embedding_size=0)


def addition_model(H: int) -> AbstractModel:
    return SequenceModel(Vectors(1), Recurrence(Leaky(0.5), 1, H), Head(H, 1, output=Linear(), loss=SquaredError()))


TASKS = {
    "copy": Task(
        "copy",
        copy_model,
        lambda B, chance: copying(DELAY, B, chance, size=SIZE, symbols=SYMBOLS),
        SIZE * math.log(SYMBOLS) / (DELAY + 2 * SIZE),
    ),
    "addition": Task("delayed addition", addition_model, lambda B, chance: delayed_addition(2000, B, chance), 5 / 64),
}


def methods(every: int) -> dict[str, AbstractGradient]:
    return {
        f"TruncatedBPTT({every})": TruncatedBPTT(every),
        f"TruncatedBPTT({every}, {every + 15})": TruncatedBPTT(every, every + 15),
        "RTRL()": RTRL(),
        f"BlockRTRL({every})": BlockRTRL(every),
        "SnAp(1)": SnAp(1),
        "UORO(0)": UORO(0),
        "KFRTRL(0)": KFRTRL(0),
        "RFLO()": RFLO(),
        "RFLO(Symmetric())": RFLO(Symmetric()),
    }


@dataclass(frozen=True)
class Curve:
    """One method on one task."""

    task: str
    method: str
    steps_per_second: float
    seconds: list[float]  # when each point was reached
    losses: list[float]  # mean over the call that ended there
    lengths: list[int]  # steps in that call

    def at(self, share: float) -> float:
        """Mean loss over the last tenth of the calls made in this share of the time."""
        calls = sum(s <= share * self.seconds[-1] for s in self.seconds)
        last = slice(calls - max(1, calls // 10), calls)
        lengths = self.lengths[last]
        return sum(loss * n for loss, n in zip(self.losses[last], lengths, strict=True)) / max(1, sum(lengths))


def stream(task: Task, B: int, every: int, seed: int) -> Iterator[Batch]:
    """Calls of ``every`` steps; the last of a sequence may be shorter."""
    chance = torch.Generator().manual_seed(seed)
    while True:
        whole = replace(task.sequences(B, chance), fresh=torch.ones(B, dtype=torch.bool))
        for start in range(0, whole.T, every):
            yield whole.steps(start, min(start + every, whole.T))


def learn(task: Task, name: str, method: AbstractGradient, args: argparse.Namespace) -> Curve:
    torch.manual_seed(args.seed)
    model = task.model(args.hidden)
    optimiser = torch.optim.Adam(model.parameters(), args.rate, fused=True)
    clock, carry, seconds, losses, lengths = 0.0, None, [], [], []
    for batch in stream(task, args.batch, args.every, args.seed):
        began = time.process_time()
        optimiser.zero_grad(set_to_none=True)
        loss, carry = method.accumulate(model, batch, carry)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        clock += time.process_time() - began
        lengths.append(batch.T)
        seconds.append(clock)
        losses.append(float(loss))
        if clock >= args.seconds:
            return Curve(task.name, name, sum(lengths) / clock, seconds, losses, lengths)
    raise AssertionError("the stream has no end")


def table(task: Task, curves: list[Curve], args: argparse.Namespace) -> Table:
    title = (
        f"{task.name}: H {args.hidden}, B {args.batch}, an update every {args.every} steps; loss after …; nothing remembered "
        f"{task.nothing:.4f}"
    )
    shown = Table("method", "steps/s", *(f"{args.seconds * m:g} s" for m in MARKS), title=title)
    for curve in curves:
        shown.add_row(curve.method, f"{curve.steps_per_second:,.0f}", *(f"{curve.at(m):.4f}" for m in MARKS))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=[*TASKS, "both"], default="both")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    console, found = Console(), []
    for task in [TASKS[args.task]] if args.task != "both" else TASKS.values():
        curves = []
        for name, method in methods(args.every).items():
            curves.append(learn(task, name, method, args))
            Console(stderr=True).print(f"{task.name}, {curves[-1].method}: {curves[-1].at(1.0):.4f}")
        console.print(table(task, curves, args))
        found += curves
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(c) for c in found]))


if __name__ == "__main__":
    main()
