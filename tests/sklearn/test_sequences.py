"""Regressor and classifier of sequences: what they learn is what the model learns by hand, and what they refuse."""

import copy
import pickle

import numpy as np
import polars
import pytest
import torch
from _rounding import rounding
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import throughtime as tt
from throughtime import cells, models, nn
from throughtime.sklearn import SequenceClassifier, SequenceRegressor
from throughtime.training import step

N, T, F = 12, 5, 2
SMALL = dict(hidden_size=4, epochs=2, batch_size=4, random_state=0)


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def sequences():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, F)) for length in rng.integers(1, 9, N)]


@pytest.fixture
def cube():
    return np.random.default_rng(1).normal(size=(N, T, F)).astype(np.float32)


def sums(X):
    return np.array([x[:, 0].sum() for x in X])


def signs(X):
    return np.where(sums(X) > 0, "up", "down")


def by_hand(model, xs, ys, weights, order):
    """Two epochs over batches of 4 sequences of one length, last step's loss; the mean loss of each epoch."""
    optimizer = torch.optim.Adam(model.parameters(), 0.01, fused=True)
    losses = []
    for rows in order:
        total = 0.0
        for batch in rows:
            x, y = torch.from_numpy(xs[batch]).transpose(0, 1).contiguous(), ys[batch]
            w = torch.zeros(T, 4)
            w[-1] = weights[batch]
            targets = y.expand(T, *y.shape).contiguous()
            batch = tt.Batch(x, targets, torch.ones(T, 4, dtype=torch.bool), w, torch.ones(4, dtype=torch.bool))
            loss = step(model, batch, None, gradient=tt.gradients.FullBPTT(), clips=[tt.training.ClipNorm(1.0)], optimizer=optimizer).loss
            total += loss * 4
        losses.append(total / N)
    return losses


def orders(estimator):
    """The rows of each batch, as the package's stream draws them."""
    from throughtime.data import AbstractSequences, SequenceStream, Steps

    class Numbers(AbstractSequences):
        lengths = np.full(N, T)

        def read(self, i, start, stop):
            return Steps(np.full((stop - start, 1), i, np.float32), np.zeros((stop - start, 1), np.float32), np.ones(stop - start, bool))

    stream = SequenceStream(Numbers(), batch_size=4, window=T, seed=estimator._learner.seed)
    return [[stream.at(e * len(stream) + i).inputs[0, :, 0].long() for i in range(len(stream))] for e in range(2)]


def test_a_regressor_learns_as_its_model_by_hand(cube):
    y = np.stack([sums(cube), cube[:, -1, 1]], 1)
    estimator = SequenceRegressor(**SMALL, cell="lstm").fit(cube, y)
    torch.manual_seed(estimator._learner.seed)
    recurrence = nn.Recurrence(cells.LSTM(), F, 4)
    head = models.Head(4, 2, output=models.Linear(), loss=models.MeanSquaredError(1 / 2))
    model = models.SequenceModel(models.Vectors(F), recurrence, head)
    flat = cube.reshape(-1, F).astype(np.float64)
    mean, scale = np.average(flat, 0), flat.std(0)
    xs = ((cube - mean) / scale).astype(np.float32)
    targets = torch.from_numpy(((y - y.mean(0)) / y.std(0)).astype(np.float32))
    losses = by_hand(model, xs, targets, torch.ones(N), orders(estimator))
    # means and scales are found by two orders of summation: some of eps of float32 in the inputs, T (F + H) H products further on
    assert np.allclose(estimator.loss_curve_, losses, rtol=rounding(T * (F + 4) * 4, dtype=torch.float32), atol=0)


def test_a_classifier_learns_as_its_model_by_hand(cube):
    estimator = SequenceClassifier(**SMALL, standardize=False, class_weight={"up": 2.0, "down": 1.0}).fit(cube, signs(cube))
    torch.manual_seed(estimator._learner.seed)
    model = models.SequenceClassifier(F, 2, hidden_size=4)
    number = torch.from_numpy((signs(cube) == "up").astype(np.int64))
    weights = np.where(number == 1, 2.0, 1.0)
    weights = torch.from_numpy((weights / weights.mean()).astype(np.float32))
    assert estimator.loss_curve_ == by_hand(model, cube, number, weights, orders(estimator))
    with torch.no_grad():
        p = model.eval().probabilities(torch.from_numpy(cube).transpose(0, 1).contiguous())
    assert np.allclose(estimator.predict_proba(cube), p, atol=8 * torch.finfo(torch.float32).eps * T * (F + 4))


def test_both_directions_read_padded_sequences(sequences):
    estimator = SequenceClassifier(**SMALL, bidirectional=True).fit(sequences, signs(sequences))
    assert estimator.model_.bidirectional
    alone = np.concatenate([estimator.predict_proba([x]) for x in sequences])
    assert np.array_equal(estimator.predict_proba(sequences), alone)


@pytest.mark.parametrize("gradient", ["full", "truncated:k1=2,k2=4", "rtrl", "uoro"])
@pytest.mark.parametrize("kind", [SequenceRegressor, SequenceClassifier])
def test_epochs_one_by_one_are_the_same_bits(kind, gradient, sequences):
    y = (sums if kind is SequenceRegressor else signs)(sequences)
    options = {**SMALL, "gradient": gradient, "dropout": 0.2, "window": 4}
    whole = kind(**options).fit(sequences, y)
    again = clone(whole).fit(sequences, y)
    parts = kind(**options).partial_fit(sequences, y)
    parts = pickle.loads(pickle.dumps(parts)).partial_fit(sequences, y)
    warm = kind(**{**options, "epochs": 1}, warm_start=True).fit(sequences, y)
    warm = copy.deepcopy(warm).fit(sequences, y)
    for other in (again, parts, warm):
        assert other.loss_curve_ == whole.loss_curve_
        assert all(torch.equal(a, b) for a, b in zip(other.model_.parameters(), whole.model_.parameters(), strict=True))
    assert kind(**{**options, "random_state": 1}).fit(sequences, y).loss_curve_ != whole.loss_curve_


def test_a_fit_leaves_the_generators_alone(sequences):
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    SequenceRegressor(**SMALL).fit(sequences, sums(sequences))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_the_forms_of_x_are_one(cube):
    y, alone = sums(cube[:, :, :1]), cube[:, :, :1]
    table, series = SequenceRegressor(**SMALL).fit(alone[:, :, 0], y), SequenceRegressor(**SMALL).fit(list(alone[:, :, 0]), y)
    for other in (SequenceRegressor(**SMALL).fit(alone, y), SequenceRegressor(**SMALL).fit(list(alone), y), series):
        assert other.loss_curve_ == table.loss_curve_
        assert np.array_equal(other.predict(list(alone)), table.predict(alone))
    assert (table.n_features_in_, SequenceRegressor(**SMALL).fit(cube, y).n_features_in_) == (T, F)
    frame = polars.DataFrame(alone[:, :, 0], schema=[f"t{t}" for t in range(T)])
    named = SequenceRegressor(**SMALL).fit(frame, y)
    assert named.feature_names_in_.tolist() == frame.columns
    assert np.array_equal(named.predict(frame), table.predict(alone))


def test_an_answer_does_not_depend_on_the_others(sequences):
    estimator = SequenceRegressor(**{**SMALL, "hidden_size": 17}).fit(sequences, sums(sequences))
    many = [x for x in sequences for _ in range(5)]
    assert np.array_equal(estimator.predict(many)[::5], [estimator.predict([x])[0] for x in sequences])


@pytest.mark.parametrize("kind", [SequenceRegressor, SequenceClassifier])
def test_an_answer_at_each_step(kind, sequences, cube):
    each = [np.cumsum(x, 0) if kind is SequenceRegressor else np.cumsum(x[:, 0]) > 0 for x in sequences]
    estimator = kind(**SMALL, each="step").fit(sequences, each)
    found = estimator.predict(sequences)
    assert [len(y) for y in found] == [len(x) for x in sequences]
    assert np.isfinite(estimator.score(sequences, each))
    short = estimator.predict([x[:1] for x in sequences])
    assert all(np.array_equal(a[:1], b) for a, b in zip(found, short, strict=True))  # the past alone
    assert estimator.predict(cube).shape[:2] == (N, T)
    assert np.isfinite(estimator.score(cube, np.cumsum(cube, 1) if kind is SequenceRegressor else np.cumsum(cube[:, :, 0], 1) > 0))


def test_weights(sequences):
    """One step on sequences of weight k is a step on k copies of each; a weight of 0 leaves one out."""
    y, times = sums(sequences), np.arange(N) % 4
    options = {**SMALL, "epochs": 1, "batch_size": 4 * N}
    weighed = SequenceRegressor(**options).fit(sequences, y, times)
    repeated = SequenceRegressor(**options).fit([x for x, k in zip(sequences, times, strict=True) for _ in range(k)], np.repeat(y, times))
    # the same sum of 18 losses in another order, of numbers whose means and scales were found in another order
    assert np.allclose(weighed.loss_curve_, repeated.loss_curve_, rtol=rounding(18 + 8 * (F + 4) * 4, dtype=torch.float32), atol=0)
    balanced = SequenceClassifier(**options, class_weight="balanced").fit(sequences, signs(sequences))
    label, count = np.unique(signs(sequences), return_counts=True)
    by_hand = SequenceClassifier(**options).fit(sequences, signs(sequences), (1 / count)[np.searchsorted(label, signs(sequences))])
    assert np.allclose(balanced.loss_curve_, by_hand.loss_curve_, rtol=rounding(N, dtype=torch.float32))


def test_early_stopping_keeps_the_best(sequences):
    y = np.random.default_rng(0).normal(size=N)
    estimator = SequenceRegressor(**{**SMALL, "epochs": 60}, lr=0.1, early_stopping=True, n_iter_no_change=3, validation_fraction=0.3)
    estimator.fit(sequences, y)
    losses = estimator.validation_losses_
    best = int(np.argmin(losses))
    assert best == len(losses) - 4 < 56
    shorter = clone(estimator).set_params(epochs=best + 1).fit(sequences, y)
    assert all(torch.equal(a, b) for a, b in zip(estimator.model_.parameters(), shorter.model_.parameters(), strict=True))


def test_inside_a_search_and_a_pipeline(cube, sequences):
    y = signs(cube)
    search = GridSearchCV(SequenceClassifier(**SMALL), {"hidden_size": [2, 3], "cell": ["rnn", cells.zoo.MGU()]}, cv=2).fit(cube, y)
    assert search.best_estimator_.predict(cube).shape == (N,)
    drawn = RandomizedSearchCV(SequenceRegressor(**SMALL), {"hidden_size": np.arange(2, 4)}, n_iter=1, cv=KFold(2), random_state=0)
    assert drawn.fit(sequences, sums(sequences)).best_params_["hidden_size"] in (2, 3)
    pipeline = make_pipeline(StandardScaler(), SequenceRegressor(**SMALL))
    assert len(cross_val_score(pipeline, cube[:, :, 0], sums(cube), cv=3)) == 3


@pytest.mark.slow
def test_in_other_processes(cube):
    y = signs(cube)
    one, two = (cross_val_score(SequenceClassifier(**SMALL), cube, y, cv=3, n_jobs=n) for n in (1, 2))
    assert np.array_equal(one, two)


def test_classes_of_later_parts(sequences):
    estimator = SequenceClassifier(**SMALL).partial_fit(sequences, ["a"] * N, classes=["b", "a", "c"])
    assert estimator.classes_.tolist() == ["a", "b", "c"]
    assert estimator.partial_fit(sequences, ["c"] * N).n_iter_ == 2
    with pytest.raises(ValueError, match=r"the class 'd', which is not among \['a', 'b', 'c'\]"):
        estimator.partial_fit(sequences, ["d"] * N)


BAD = [
    (dict(cell="gruu"), "expected one of rnn, gru, lstm"),
    (dict(gradient="bptt"), "names no gradient method"),
    (dict(hidden_size=0), "hidden_size is 0; expected an integer"),
    (dict(window=0), "window is 0; expected an integer"),
    (dict(lr=-1.0), "`lr` is -1.0; expected a finite number above 0"),
    (dict(optimizer="lbfgs"), "optimizer is 'lbfgs'; expected 'sgd' or 'adam'"),
    (dict(validation_fraction=1.0), "validation_fraction is 1.0; expected a number above 0"),
    (dict(each="sentence"), "each is 'sentence'; expected 'sequence' or 'step'"),
    (dict(device="tpu"), "`device` is 'tpu'"),
    (dict(loss="hinge"), "loss is 'hinge'; expected 'squared'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[next(iter(options)) for options, _ in BAD])
def test_parameters_that_mean_nothing(options, message, sequences):
    estimator = SequenceRegressor(**SMALL).set_params(**options)
    with pytest.raises(ValueError, match=message):
        estimator.fit(sequences, sums(sequences))
    assert not estimator.__sklearn_is_fitted__()


def test_x_and_y_that_do_not_fit(sequences, cube):
    y, fitted = sums(sequences), SequenceRegressor(**SMALL).fit(cube, sums(cube))
    nan = [*sequences[:3], sequences[3] * np.nan, *sequences[4:]]
    for X, given, message in (
        (nan, y, r"X\[3\] contains NaN"),
        ([*sequences[:-1], sequences[-1][:0]], y, r"X\[11\] has shape \(0, 2\)"),
        ([*sequences[:-1], np.zeros((3, 4))], y, "the sequences of X have 2 to 4 features"),
        ([*sequences[:-1], [["a", "b"]]], y, r"X\[11\] is no array of numbers"),
        (sequences, y[:-1], r"inconsistent numbers of samples: \[12, 11\]"),
        (sequences, y * np.inf, "Input y contains infinity"),
        (sequences, None, "requires y to be passed"),
        ([], [], "Expected 2D array, got 1D array instead"),
        (cube[:, :0], y, r"has shape \(0, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            SequenceRegressor(**SMALL).fit(X, given)
    with pytest.raises(ValueError, match="X has 1 features, but SequenceRegressor is expecting 2"):
        fitted.predict(cube[:, :, :1])
    with pytest.raises(ValueError, match="X has two axes, and the estimator was fitted on sequences"):
        fitted.predict(cube[:, :, 0])
    with pytest.raises(ValueError, match=r"y has 2 targets; expected 1, as in fit"):
        fitted.partial_fit(cube, cube[:, 0])
    with pytest.raises(ValueError, match=r"y\[0\] has 4 rows and X\[0\] has 5 steps"):
        SequenceRegressor(**SMALL, each="step").fit(cube, cube[:, :4, 0])
    with pytest.raises(ValueError, match=r"sample_weight has shape \(3,\); expected \(12,\)"):
        SequenceRegressor(**SMALL).fit(sequences, y, [1, 2, 3])
    with pytest.raises(ValueError, match="y has one class only, 'a'"):
        SequenceClassifier(**SMALL).fit(sequences, ["a"] * N)
    with pytest.raises(ValueError, match="class_weight is given with each='step'"):
        SequenceClassifier(**SMALL, each="step", class_weight="balanced").fit(cube, cube[:, :, 0] > 0)
    with pytest.raises(NotFittedError):
        SequenceClassifier().predict_proba(cube)
