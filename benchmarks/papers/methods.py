"""Gradient methods on one stream: what does an update buy, and what does a second? The picture has both.

    python benchmarks/papers/methods.py --json benchmarks/results/papers-methods.json --picture docs/figures/methods.png

The task of Marschall, Cho & Savin (2020, §4) after Pitis (2016): y_t = ½ + ½ x_{t−6} − ¼ x_{t−10} on an endless stream of coins. Without
any memory the squared error is .0781, with the first lag alone .0156. All have the same leaky network of 32 tanh units (the one cell for
which every method is defined), the same first weights, the same streams, Adam at .003, gradients clipped to a norm of 1, and an update
every 4 steps.

Other than in the paper: their network has a sigmoid output and cross-entropy, and gradient descent with a rate chosen for each method;
their comparison is a figure, so there is no number of theirs here. The clock is the processor's and runs only while a method works.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from _table import Outcome, Row, Table, count, main
from matplotlib.figure import Figure

from throughtime.cells import Leaky
from throughtime.data import Batch, delayed_addition
from throughtime.gradients import KFRTRL, RFLO, RTRL, UORO, AbstractGradient, BlockRTRL, SlidingBPTT, SnAp, Symmetric, TruncatedBPTT
from throughtime.models import Head, Linear, SequenceModel, SquaredError, Vectors
from throughtime.nn import Recurrence
from throughtime.training import ClipNorm, step

EVERY = 4  # steps of time between two updates
POINTS = 40  # of a curve


@dataclass(frozen=True)
class Recipe:
    method: AbstractGradient
    updates: int = 4000
    streams: int = 4
    hidden: int = 32
    rate: float = 3e-3

    def train(self, seed: int) -> Outcome:
        stack = Recurrence(Leaky(0.5), 1, self.hidden)
        model = SequenceModel(Vectors(1), stack, Head(self.hidden, 1, output=Linear(), loss=SquaredError()))
        optimizer = torch.optim.Adam(model.parameters(), self.rate, fused=True)
        carry, clock, losses, seconds = None, 0.0, [], []
        for batch, _ in zip(stream(self.streams, seed), range(self.updates), strict=False):
            began = time.process_time()
            done = step(model, batch, carry, gradient=self.method, clips=[ClipNorm(1.0)], optimizer=optimizer)
            clock, carry = clock + time.process_time() - began, done.carry
            losses.append(done.loss)
            seconds.append(clock)
        return Outcome(_last_tenth(losses), count(model), {"curve": curve(losses, seconds)})


def stream(streams: int, seed: int, length: int = 2000) -> Iterator[Batch]:
    """Calls of ``EVERY`` steps; the streams begin anew every ``length``."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        whole = replace(delayed_addition(length, streams, generator), fresh=torch.ones(streams, dtype=torch.bool))
        for start in range(0, length, EVERY):
            yield whole.steps(start, start + EVERY)


def _last_tenth(losses: Sequence[float]) -> float:
    return statistics.fmean(losses[-max(1, len(losses) // 10) :])


def curve(losses: Sequence[float], seconds: Sequence[float]) -> list[dict[str, float]]:
    """The mean loss between two of ``POINTS`` moments, with the update and the second of the later one."""
    size = max(1, len(losses) // POINTS)
    ends = range(size, len(losses) + 1, size)
    return [{"update": end, "seconds": seconds[end - 1], "loss": statistics.fmean(losses[end - size : end])} for end in ends]


METHODS: dict[str, AbstractGradient] = {
    "truncated to 4": TruncatedBPTT(EVERY),
    "truncated to 4, back 16": TruncatedBPTT(EVERY, 16),
    "sliding, 12 lags": SlidingBPTT(12),
    "RTRL": RTRL(),
    "block RTRL": BlockRTRL(EVERY),
    "SnAp-1": SnAp(1),
    "UORO": UORO(0),
    "KF-RTRL": KFRTRL(0),
    "RFLO, random feedback": RFLO(),
    "RFLO, exact feedback": RFLO(Symmetric()),
}


def rows(small: bool) -> Sequence[Row]:
    recipes = {name: Recipe(method, updates=2 if small else Recipe.updates) for name, method in METHODS.items()}
    return [Row(name, "–", repr(recipe), recipe.train) for name, recipe in recipes.items()]


BOUNDS = {"remembers nothing": 5 / 64, "knows the first lag alone": 1 / 64}  # squared errors


def picture(found: Sequence[dict[str, Any]]) -> Figure:
    """The loss by updates, and by seconds of the processor: the mean over seeds of each part of a curve.

    The worst at the end stands first.
    """
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    axes: Any = figure.subplots(1, 2, sharey=True)
    means = {row["name"]: _mean_curve([run["curve"] for run in row["runs"]]) for row in found}
    for i, (name, mean) in enumerate(sorted(means.items(), key=lambda each: -each[1]["loss"][-1])):
        style = "--" if name.startswith("block") else "-"  # on the left it lies on RTRL, whose gradient it has
        for axis, key in zip(axes, ("update", "seconds"), strict=True):
            axis.semilogy(mean[key], mean["loss"], style, color=f"C{i % 10}", label=name, zorder=3 if style == "--" else 2)
    for axis, label in zip(axes, ("updates", "seconds of one processor"), strict=True):
        for bound in BOUNDS.values():
            axis.axhline(bound, color="0.7", linewidth=0.8, zorder=1)
        axis.set(xlabel=label)
        axis.spines[["top", "right"]].set_visible(False)
    for name, bound in BOUNDS.items():
        axes[1].annotate(name, (15, bound), (0, 8), textcoords="offset points", color="0.4", fontsize=8, ha="right")
    axes[0].set(ylabel="squared error")
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside right center")
    return figure


def _mean_curve(curves: Sequence[Any]) -> dict[str, list[float]]:
    """The mean over seeds, by what a curve has."""
    return {key: [statistics.fmean(c[k][key] for c in curves) for k in range(len(curves[0]))] for key in ("update", "seconds", "loss")}


TABLE = Table("squared error", ".4f", rows, picture)

if __name__ == "__main__":
    main(TABLE, __doc__)
