"""The forecaster: the package's own on an array, in scikit-learn's words."""

import pickle

import numpy as np
import polars
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score

import throughtime as tt
from throughtime.sklearn import Forecaster

SMALL = dict(hidden_size=4, epochs=2, horizon=3, context=5, window=8, batch_size=4, random_state=0)


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def series():
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(size=60)), rng.normal(size=(60, 2))


def test_it_is_the_command_s_forecaster(series, tmp_path):
    """The same table through ``train series`` data: the same losses, and from the same weights the same forecast."""
    y, X = series
    polars.DataFrame({"y": y, "a": X[:, 0], "b": X[:, 1]}).write_csv(tmp_path / "table.csv")
    columns = tt.data.Columns(("y",), known=("a", "b"))
    table = tt.data.write_series(tmp_path / "table.csv", tmp_path, columns, split=(60, 0, 0), shortest=8)
    estimator = Forecaster(**SMALL).fit(y, X)
    origins = tt.data.Origins(table, "train", horizon=3, context=5, pieces=4)
    stream = tt.data.SequenceStream(origins, batch_size=4, window=8, seed=estimator._learner.seed)
    torch.manual_seed(estimator._learner.seed)
    model = tt.models.Forecaster(tt.data.input_size(columns, 3), horizon=3, hidden_size=4, loss=tt.models.MeanSquaredError(1 / 3))
    optimizer, losses, carry = torch.optim.Adam(model.parameters(), 0.01, fused=True), [], None
    for epoch in range(2):
        total = counted = 0
        for i in range(len(stream)):
            batch = stream.at(epoch * len(stream) + i)
            loss, _, _, carry = tt.training.step(
                model, batch, carry, gradient=tt.gradients.FullBPTT(), clips=[tt.training.ClipNorm(1.0)], optimizer=optimizer
            )
            total, counted = total + loss * batch.counted(), counted + batch.counted()
        losses.append(total / counted)
    assert estimator.loss_curve_ == losses
    known = ((X[:7] - X.mean(0)) / X.std(0)).astype(np.float32)
    rolled = tt.training.roll(model.eval(), columns, table.open_values(), known, 7, level=0.8, relative=True)
    assert np.allclose(estimator.predict(7, X[:7]), rolled.point[:, 0] * table.scale[0, 0] + table.mean[0, 0], rtol=1e-12)


def test_reading_on_is_reading_all(series):
    """Forecasts after ``update`` are those from the whole series, and a score is that of forecasts from each of its ends."""
    y, X = series
    estimator = Forecaster(**SMALL, loss="gaussian").fit(y[:40], X[:40])
    forecasts = []
    for t in range(40, 58):
        forecasts.append(estimator.predict(None, X[t : t + 3]))
        estimator.update(y[t : t + 1], X[t : t + 1])
    truth = np.stack([y[t : t + 3] for t in range(40, 58)])
    wanted = 1 - np.square(truth - forecasts).sum() / np.square(truth - truth.mean()).sum()
    before = Forecaster(**SMALL, loss="gaussian").fit(y[:40], X[:40])
    # a backtest's context begins 5 steps early, and predict has read all: the network has forgotten most of the difference
    assert abs(before.score(y[40:], X[40:]) - wanted) < 0.05
    low, high = before.predict_interval(3, X[40:43], 0.5)
    wide = before.predict_interval(3, X[40:43], 0.9)
    assert ((wide[0] < low) & (low < before.predict(3, X[40:43])) & (high < wide[1])).all()


def test_several_targets_and_missing_values(series):
    y = np.stack([series[0], np.sin(series[0])], 1)
    y[10:13, 1] = np.nan
    estimator = Forecaster(**SMALL, loss="quantiles", relative=False).fit(y)
    assert estimator.predict(5).shape == (5, 2)
    assert estimator.predict_interval()[0].shape == (3, 2)
    assert np.isfinite(estimator.score(y[:20]))
    assert estimator.n_features_in_ == 0


def test_epochs_parts_and_copies(series):
    y, X = series
    frame = polars.DataFrame(X, schema=["a", "b"])
    whole = Forecaster(**SMALL).fit(y, frame)
    assert whole.feature_names_in_.tolist() == ["a", "b"]
    warm = pickle.loads(pickle.dumps(Forecaster(**{**SMALL, "epochs": 1}, warm_start=True).fit(y, frame))).fit(y, frame)
    assert warm.loss_curve_ == whole.loss_curve_
    assert np.array_equal(warm.predict(4, frame), whole.predict(4, frame))
    parts = Forecaster(**SMALL).partial_fit(y[:40]).partial_fit(y[40:])
    assert (parts.n_iter_, len(parts._rows)) == (2, 60)
    stopped = Forecaster(**{**SMALL, "epochs": 40}, lr=0.1, early_stopping=True, n_iter_no_change=2).fit(y)
    assert np.argmin(stopped.validation_losses_) == len(stopped.validation_losses_) - 3


def test_inside_a_search(series):
    y, X = series
    assert np.isfinite(cross_val_score(Forecaster(**SMALL), y, X, cv=TimeSeriesSplit(2))).all()
    search = GridSearchCV(Forecaster(**SMALL), {"cell": ["rnn", "gru"]}, cv=TimeSeriesSplit(2)).fit(y)
    assert search.predict(4).shape == (4,)


def test_bad_input(series):
    y, X = series
    fitted, known = Forecaster(**SMALL).fit(y), Forecaster(**SMALL).fit(y, X)
    for call, message in (
        (lambda: Forecaster(**SMALL).fit(y[:7]), "y has 7 steps; expected at least 8"),
        (lambda: Forecaster(**SMALL, early_stopping=True).fit(y[:10]), "y has 10 steps, 3 of them held out; expected at least 8"),
        (lambda: Forecaster(**SMALL).fit(y * 0), "target 0 of y is constant"),
        (lambda: Forecaster(**SMALL).fit(y * np.nan), "target 0 of y has no value"),
        (lambda: Forecaster(**SMALL).fit(y * np.inf), "Input y contains infinity"),
        (lambda: Forecaster(**SMALL).fit(y, X[:-1]), "inconsistent numbers of samples"),
        (lambda: Forecaster(**SMALL, coverage=1.0).fit(y), "coverage is 1.0; expected a probability"),
        (lambda: Forecaster(**{**SMALL, "horizon": 0}).fit(y), "horizon is 0; expected an integer"),
        (lambda: fitted.predict(0), "steps is 0; expected an integer from 1"),
        (lambda: fitted.predict(3, X[:3]), "X is given, and fit had none"),
        (lambda: fitted.predict_interval(), "loss='squared' has no interval of coverage 0.8"),
        (lambda: fitted.predict_interval(4), "steps is 4 and the horizon 3"),
        (lambda: fitted.score(y[:2]), "y has 2 steps; expected at least the horizon, 3"),
        (lambda: fitted.update(np.stack([y, y], 1)), "y has 2 targets, but Forecaster is expecting 1"),
        (lambda: known.predict(3), "X is not given, and fit had 2 columns"),
        (lambda: known.predict(3, X[:2]), "X has 2 rows; expected 3"),
        (lambda: known.predict(3, X[:3, :1]), "X has 1 features, but Forecaster is expecting 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(NotFittedError):
        Forecaster().predict()
