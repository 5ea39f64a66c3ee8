# %% [markdown]
# # Forecasting sunspots
#
# 309 numbers, one for each year from 1700 to 2008, on which forecasters have been tried since Yule (1927) made autoregression for them.
# As in the literature, models learn from the years to 1920; the settings below were chosen on 1921–1955, and 1956–2008 is the test. A GRU
# reads the whole past, year by year, and says by how much the next year differs. Half a minute on one core.
#
# `python examples/sunspots.py [TABLE.csv]` takes a table of years and numbers. Without one it is the data set `sunspots`, which
# `throughtime data sunspots` fetches once, and says where to put the file if there is no network.

# %%
import sys

import matplotlib.pyplot as plt
import numpy as np
import torch

import throughtime as tt

path = sys.argv[1] if len(sys.argv) == 2 else tt.data.fetch("sunspots")  # (in a notebook there are more words)
years, spots = np.genfromtxt(path, delimiter=",", skip_header=1).T
LEARNED, CHOSEN = 1920, 1955  # the last years of learning and of choosing
LAST = int(np.sum(years <= LEARNED))
HIDDEN, STEPS, RATE, NOISE, NETWORKS = 8, 300, 0.02, 0.15, 5

# %% [markdown]
# Inputs are standardised on the years of learning. The target of a year is the change to the next one.
#
# 221 years are few for any network. Noise on the input stands for the years that there are not: the same series is never seen twice. And
# five networks from different starts are averaged. There is one sequence, and it is short, so the gradient is that of full BPTT.

# %%
mean, sd = spots[:LAST].mean(), spots[:LAST].std()
z = torch.tensor((spots - mean) / sd, dtype=torch.float32).view(-1, 1, 1)  # (T, B, I), one stream of one number


def learned(seed: int) -> tt.models.Forecaster:
    torch.manual_seed(seed)
    model, gradient = tt.models.Forecaster(1, hidden_size=HIDDEN), tt.gradients.FullBPTT()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, STEPS)
    for _ in range(STEPS):
        seen = z[: LAST - 1] + NOISE * torch.randn(LAST - 1, 1, 1)
        optimizer.zero_grad()
        gradient.accumulate(model, tt.Batch(seen, z[1:LAST] - seen))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def forecasts(model: tt.models.Forecaster) -> np.ndarray:
    """Of every year but the first, each from the years before it."""
    outputs, _ = model(z[:-1])
    return (z[:-1] + outputs).flatten().numpy() * sd + mean


def autoregression(order: int) -> np.ndarray:
    """The same by Yule's linear model, fitted by least squares; nothing where it lacks years before."""
    past = np.stack([spots[order - 1 - k : len(spots) - 1 - k] for k in range(order)] + [np.ones(len(spots) - order)], 1)
    weights = np.linalg.lstsq(past[: LAST - order], spots[order:LAST], rcond=None)[0]
    return np.concatenate([np.full(order - 1, np.nan), past @ weights])


# %% [markdown]
# Errors are mean squares as parts of the variance of the numbers to 1979, so that 1 is the error of knowing nothing but the mean.

# %%
told = {
    "last value": spots[:-1],
    "autoregression of order 2": autoregression(2),
    "autoregression of order 9": autoregression(9),
    f"GRU, mean of {NETWORKS}": np.mean([forecasts(learned(seed)) for seed in range(NETWORKS)], 0),
}
errors = {name: (forecast - spots[1:]) ** 2 / spots[years <= 1979].var() for name, forecast in told.items()}
spans = {"1921-1955": (LEARNED, CHOSEN), "1956-2008": (CHOSEN, np.inf)}
rows = {name: [error[(years[1:] > a) & (years[1:] <= b)].mean() for a, b in spans.values()] for name, error in errors.items()}
print(f"{'':26}" + "".join(f"{span:>12}" for span in spans))
for name, row in rows.items():
    print(f"{name:26}" + "".join(f"{error:12.3f}" for error in row))

# %% [markdown]
# ![The forecasts of the GRU follow the cycle of eleven years, a little late at its steepest.](../docs/figures/sunspots.png)
#
# For hours of an electricity transformer, missing values, intervals and a backtest, [series](../docs/quickstart/series.md) has the verbs.

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
axes.plot(years, spots, color="0.6", label="sunspots")
axes.plot(years[LAST:], told[f"GRU, mean of {NETWORKS}"][LAST - 1 :], label="forecast from the years before")
axes.set(xlim=(LEARNED - 40, years[-1]), xlabel="year", title="one year ahead; learned from the years to 1920")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.savefig("sunspots.png", dpi=80)
