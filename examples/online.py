# %% [markdown]
# # Online learning on a drifting stream
#
# Numbers come one after another, for ever. At every step the network says the next number, and learns from its error when that comes.
# The series is a sum of two waves whose periods take a random walk, so that nothing learned stays true. There is no epoch, no window and
# no past to go back into: `tt.OnlineLearner` runs in constant memory. Half a minute on one core;
# `python examples/online.py 1_000_000` follows the series for a million steps, and Ctrl-C ends a method early.

# %%
import math
import sys
from collections.abc import Iterator

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import throughtime as tt
from throughtime.gradients import RTRL, AbstractGradient, FullBPTT, SnAp, TruncatedBPTT

STEPS = int(sys.argv[1]) if len(sys.argv) == 2 else 2500  # (in a notebook there are more words)
HIDDEN, RATE, RECENT = 12, 0.003, 500
torch.set_num_threads(1)  # one small step is too little work for a second thread


# %%
def drifting(seed: int) -> Iterator[float]:
    """sin + sin, each with a period that takes a random walk between 8 and 60 steps."""
    generator = torch.Generator().manual_seed(seed)
    phases, periods = [0.0, 1.0], [12.0, 37.0]
    while True:
        for k, z in enumerate(torch.randn(2, generator=generator).tolist()):
            periods[k] = min(60.0, max(8.0, periods[k] * math.exp(0.01 * z)))
            phases[k] = (phases[k] + 2 * math.pi / periods[k]) % (2 * math.pi)
        yield 0.5 * math.sin(phases[0]) + 0.5 * math.sin(phases[1])


# %% [markdown]
# One call of `learn` is one step of time and one of the optimiser. What a gradient method knows of the past is in its carry:
#
# | method | sees |
# |---|---|
# | `FullBPTT()`, called with one step | that step alone |
# | `TruncatedBPTT(1, 8)` | the last eight steps, which it runs again |
# | `SnAp(1)` | each unit's own past, all of it |
# | `RTRL()` | the whole past, exactly, in memory that grows with H³ |
#
# The forward methods suit small networks; [choosing a gradient method](../docs/choosing_a_gradient.md) has the costs.


# %%
def follow(name: str, method: AbstractGradient, seed: int = 0) -> Tensor:
    """The squared errors of the forecasts, of all steps or until Ctrl-C."""
    torch.manual_seed(seed)
    recurrence = tt.nn.Recurrence(tt.cells.GRU(), 1, HIDDEN)
    head = tt.models.Head(HIDDEN, 1, output=tt.models.Linear(), loss=tt.models.SquaredError())
    model = tt.SequenceModel(tt.models.Vectors(1), recurrence, head)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    learner = tt.OnlineLearner(model, method, optimizer, clips=(tt.training.ClipNorm(1.0),))
    series = drifting(seed)
    now, errors = next(series), []
    print(f"{name}: Ctrl-C stops it", file=sys.stderr, flush=True)
    try:
        for upcoming, _ in zip(series, range(STEPS), strict=False):
            errors.append(learner.learn(torch.tensor([[now]]), torch.tensor([[upcoming]])))
            now = upcoming
    except KeyboardInterrupt:
        print(f"{name}: stopped after {len(errors):,} steps")
    return torch.tensor(errors)


methods = {"one step": FullBPTT(), "eight steps": TruncatedBPTT(1, 8), "SnAp-1": SnAp(1), "RTRL": RTRL()}
errors = {name: follow(name, method) for name, method in methods.items()}
series = drifting(0)
values = torch.tensor([next(series) for _ in range(1 + max(map(len, errors.values())))])
errors["saying the last value again"] = values.diff().square()

# %% [markdown]
# ![Errors of the four methods and of copying: all four fall below copying; one comes back to it once.](../docs/figures/online.png)
#
# All four follow the drift, with a fourth to an eleventh of the error of saying the last value again. For 1,700 steps those that see
# farther are a little ahead; then each loses the series now and then, and nobody is always first. Two waves can be told from the last few
# values, so little is gained by seeing farther here. At a rate of 0.01 the methods that see farther even became unstable.

# %%
for name, error in errors.items():
    print(f"{name:28} mean squared error of the last {RECENT} of {len(error):,} steps {error[-RECENT:].mean():.5f}")
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, error in errors.items():
    axes.semilogy(error[: len(error) // 100 * 100].view(len(error) // 100, 100).mean(1), label=name)
axes.set(xlabel="steps, in hundreds", ylabel="squared error", title="learning for ever on a series that drifts")
axes.legend(frameon=False, ncols=2)
axes.spines[["top", "right"]].set_visible(False)
plt.savefig("online.png", dpi=80)
