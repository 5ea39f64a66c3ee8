"""Intervals beyond the horizon: the vectorised paths are those of a plain loop, one at a time, and spread as they must."""

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from throughtime.data import Columns, carried_on, input_size, write_series
from throughtime.models import Forecaster, GaussianLikelihood
from throughtime.training import LoopOptions, OptimiserOptions, SeriesOptions, SeriesRun, StackOptions, TrainedForecaster, _paths, _roll


def trained(folder: Path, *, horizon: int, targets=("y",), features=(), known=(), relative=True, loss="gaussian") -> TrainedForecaster:
    """A network with random weights, over a random walk whose columns hang together."""
    rng = np.random.default_rng(5)
    walk = np.cumsum(rng.normal(size=(80, 1)), 0) + 0.3 * rng.normal(size=(80, 4))
    walk[40, 0] = np.nan
    lines = ["y,z,x,k", *(",".join("" if np.isnan(v) else f"{v:.6f}" for v in row) for row in walk)]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    columns = Columns(targets, features, known)
    table = write_series(folder / "t.csv", folder, columns, split=(0.7, 0.1, 0.2), shortest=6)
    options = SeriesOptions((folder / "t.csv",), targets, features, known, horizon=horizon, context=5, relative=relative, loss=loss)  # type: ignore[arg-type]
    torch.manual_seed(0)
    size = input_size(columns, horizon)
    model = Forecaster(size, len(targets), horizon=horizon, hidden_size=6, loss=GaussianLikelihood()).eval()
    return TrainedForecaster(model, table, SeriesRun(options, StackOptions(), OptimiserOptions(), LoopOptions()), [], folder)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("targets", "features", "known", "K"), [(("y",), (), (), 1), (("y", "z"), ("x",), ("k",), 3)])
def test_paths_are_those_of_a_loop(tmp_path, relative, targets, features, known, K):
    found = trained(tmp_path, horizon=K, targets=targets, features=features, known=known, relative=relative)
    V, blocks, M, level = len(targets), 3, 4, 0.5
    series = np.array(found.table.open_values())
    start = len(series) - blocks * K
    rows = series.copy()
    rows[start:, :V], rows[start:, V : V + len(features)] = 0.1, np.nan  # the point forecast, which the paths do not read
    u = np.random.default_rng(1).random((blocks, M, K, V))
    o, state = _roll._read(found.model, found.table.columns, rows[: start + K], 0, start, None, relative=relative)
    since = carried_on(rows[:start, :V])[-1].astype(float) if relative else np.zeros(V)
    found.model.requires_grad_(False)
    low, high = _paths.beyond(found.model, found.table.columns, rows, start, o, state, since, iter(u), level=level, relative=relative)

    paths = np.zeros((M, blocks * K, V))
    for m in range(M):
        mine, done, s = rows.copy(), 0, None
        for block in range(blocks):
            at = start + block * K
            o, s = _roll._read(found.model, found.table.columns, mine[: at + K], done, at - done, s, relative=relative)
            done = at
            values = found.model.value_at(o, torch.from_numpy(u[block, m][None]).to(o))
            assert values is not None
            before = carried_on(mine[:at, :V])[-1].astype(float) if relative else 0.0
            mine[at : at + K, :V] = paths[m, block * K : (block + 1) * K] = values[0].detach().double().numpy() + before
    wanted = np.quantile(paths[:, K:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    # float32 through two blocks: a few roundings of numbers up to 10, each taken on by 3 K steps of a network of 6 units
    tolerance = 4 * float(torch.finfo(torch.float32).eps) * 10 * 3 * K * 6
    assert np.abs(np.stack([low, high]) - wanted).max() < tolerance


def test_the_interval_of_a_random_walk_grows_with_the_root_of_time(tmp_path):
    found = trained(tmp_path, horizon=1)
    with torch.no_grad():
        found.model.head.weight.zero_()
        found.model.head.bias.copy_(torch.tensor([0.0, 0.5]))  # every change is drawn from N(0, σ²)
    sigma = float(torch.nn.functional.softplus(torch.tensor(0.5))) + 1e-3
    forecast = found.forecast(steps=25, level=0.8)
    assert forecast.low is not None
    assert forecast.high is not None
    scale = found.table.scale[0, 0]
    z = NormalDist().inv_cdf(0.9)
    density = NormalDist().pdf(z)
    for step in range(25):
        reach = sigma * scale * (step + 1) ** 0.5
        error = 5 * (0.1 * 0.9 / _paths.PATHS) ** 0.5 / density * reach  # five standard deviations of a quantile of so many draws
        for end, sign in ((forecast.low, -1), (forecast.high, 1)):
            assert abs(end[step, 0] - forecast.point[step, 0] - sign * z * reach) < error
    again = found.forecast(steps=25, level=0.8)
    assert again.low is not None
    assert np.array_equal(again.low, forecast.low)


def test_a_draw_has_uniform_probabilities_that_go_together_as_the_errors_did():
    rng = np.random.default_rng(0)
    errors = np.repeat(rng.normal(size=(50, 1, 1)), 3, 1) * np.array([1.0, 2.0, -1.0])[:, None]  # the third step runs against the others
    u = _paths.Ranks.of(errors).drawn(rng, 4000)
    assert u.min() > 0
    assert u.max() < 1
    assert np.abs(u[:, 0] - u[:, 1]).max() <= 1 / 50  # the same origin: the same rank
    assert np.abs(u[:, 0] + u[:, 2] - 1).max() <= 1 / 50
    # the share below 1/4 of 4,000 uniform numbers, of 50 ranks: five standard deviations
    assert np.abs((u < 0.25).mean(0) - 0.25).max() < 5 * (0.25 * 0.75 / 4000) ** 0.5


def test_ranks_come_from_the_table(tmp_path):
    found = trained(tmp_path, horizon=2, targets=("y", "z"))
    places = _paths.ranks(found.model, found.table, context=5, relative=True).places
    assert places.shape[1:] == (2, 2)
    assert len(places) > 3
    assert (np.sort(places, 0) == np.arange(len(places))[:, None, None]).all()
