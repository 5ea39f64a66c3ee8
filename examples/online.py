"""Online learning on an endless drifting series: at every step the network predicts the next number and learns from its error.

    python examples/online.py                      a million steps; Ctrl-C stops and prints the errors so far
    python examples/online.py --steps 20000 --method rtrl
    python examples/online.py --method truncated   the gradient of the present step only, for comparison

The series is a sum of two waves whose frequencies drift, so that the network must go on learning. "copying" is the error of predicting
the present value again. Errors are means of (y − ŷ)² over the last `--window` steps.
"""

import argparse
import math
from collections import deque
from collections.abc import Iterator

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import throughtime as tt
from throughtime.cells import GRU
from throughtime.gradients import RTRL, UORO, AbstractGradient, EProp, FullBPTT, SnAp
from throughtime.models import Head, Linear, SequenceModel, SquaredError, Vectors
from throughtime.nn import Recurrence
from throughtime.training import ClipNorm

METHODS: dict[str, AbstractGradient] = {"rtrl": RTRL(), "snap": SnAp(1), "uoro": UORO(0), "eprop": EProp(), "truncated": FullBPTT()}


def drifting(seed: int) -> Iterator[float]:
    """sin + sin, each with a frequency that takes a random walk between periods of 8 and 60 steps."""
    generator = torch.Generator().manual_seed(seed)
    phases, periods = [0.0, 1.0], [12.0, 37.0]
    while True:
        for k, z in enumerate(torch.randn(2, generator=generator).tolist()):
            periods[k] = min(60.0, max(8.0, periods[k] * math.exp(0.01 * z)))
            phases[k] = (phases[k] + 2 * math.pi / periods[k]) % (2 * math.pi)
        yield 0.5 * math.sin(phases[0]) + 0.5 * math.sin(phases[1])


def follow(steps: int, method: AbstractGradient, hidden: int, rate: float, window: int, seed: int) -> tuple[int, float, float]:
    """The number of steps, and the rolling errors of the network and of copying. A keyboard interrupt ends it early."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the products of one small step are too small for a second thread
    model = SequenceModel(Vectors(1), Recurrence(GRU(), 1, hidden), Head(hidden, 1, output=Linear(), loss=SquaredError()))
    learner = tt.OnlineLearner(model, method, torch.optim.Adam(model.parameters(), rate), clips=(ClipNorm(1.0),))
    series = drifting(seed)
    now, made = next(series), 0
    ours, copying = deque[float](maxlen=window), deque[float](maxlen=window)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("error {task.fields[error]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=steps, error="")
        try:
            print(f"{method} follows; Ctrl-C stops it", flush=True)
            for upcoming in series:
                ours.append(learner.learn(torch.tensor([[now]]), torch.tensor([[upcoming]])))
                copying.append((upcoming - now) ** 2)
                now, made = upcoming, made + 1
                if made % 200 == 0 or made == steps:
                    progress.update(bar, completed=made, error=f"{mean(ours):.5f} (copying {mean(copying):.5f})")
                if made == steps:
                    break
        except KeyboardInterrupt:
            progress.console.print("stopped")
    return made, mean(ours), mean(copying)


def mean(errors: deque[float]) -> float:
    return sum(errors) / max(1, len(errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--method", choices=METHODS, default="rtrl")
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--window", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if min(args.steps, args.hidden, args.window) < 1:
        parser.error("--steps, --hidden and --window are at least 1")
    method = METHODS[args.method]
    made, ours, copying = follow(args.steps, method, args.hidden, args.rate, args.window, args.seed)
    print(f"{method}: {made:,} steps, error {ours:.5f} over the last {min(made, args.window):,}; copying {copying:.5f}")


if __name__ == "__main__":
    main()
