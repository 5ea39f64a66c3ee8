"""What comes next in a series.

N steps · K horizon · V targets · C columns that are known beforehand.
"""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from .. import _check, models
from .._check import InputError
from ..data import Calendar, Columns, Group, Origins, Read, SequenceStream, SeriesArrays, input_size, standardised
from ..models import Regression, regression
from ..training import Rolled, backtest, roll
from ._inputs import array_of
from ._network import NetworkEstimator

_AT_A_TIME = 512  # steps that are read for a score


@final
@dataclass(kw_only=True, eq=False, repr=False)
class Forecaster(NetworkEstimator):
    """A recurrent network that reads a series and says what comes next, with intervals.

    ``models.Forecaster``, trained by ``training.step``, as ``throughtime train series`` does it. The series comes first, as in sktime and
    skforecast: ``fit(y, X)``, ``predict(steps, X)``. So ``cross_val_score(forecaster, y, cv=TimeSeriesSplit())`` works, and
    ``cross_val_score(forecaster, y, X, cv=TimeSeriesSplit())`` where columns are known beforehand: they stand at the second place.

    Args:
        horizon: K, the steps that are forecast at once. Further ones are forecast from forecasts.
        context: steps that are read before a forecast counts in training.
        relative: forecast the change since the last value, which suits series that drift; False: the value itself.
        loss: "squared", "absolute", "huber", "gaussian" or "quantiles"; the last two give intervals.
        coverage: the probability that an interval is to hold.
        window: as in ``NetworkEstimator``.
        batch_size: into how many pieces the series is cut, which are read side by side.

    The other parameters are those of ``NetworkEstimator``; ``validation_fraction`` is the end of the series.

    Attributes:
        model_: the network, in evaluation mode.
        loss_curve_, validation_losses_: a number an epoch.
        n_iter_: epochs done.
        n_features_in_: C.
        feature_names_in_: of the columns of X, where they have names.

    >>> y = np.sin(np.arange(300) / 4)
    >>> forecaster = Forecaster(horizon=8, hidden_size=16, epochs=50, random_state=0).fit(y[:-8])
    >>> bool(np.abs(forecaster.predict() - y[-8:]).max() < 0.2)
    True
    """

    horizon: int = 1
    context: int = 24
    relative: bool = True
    loss: Regression = "squared"
    coverage: float = 0.8
    window: int | None = 32
    batch_size: int = 8

    def fit(self, y: Any, X: Any = None) -> "Forecaster":
        """Learn from a series.

        Args:
            y: (N,) or (N, V), in equal steps of time; NaN where a value is missing.
            X: (N, C) columns that will be known beforehand, such as holidays; None: there are none.

        Raises:
            ValueError: a parameter that means nothing, a series that is too short, constant or infinite.
        """
        return self._fit(y, X, epochs=self._whole("epochs"), go_on=self.warm_start and self.__sklearn_is_fitted__())

    def partial_fit(self, y: Any, X: Any = None) -> "Forecaster":
        """Read how the series goes on, and learn from that part in one epoch; the first call begins a series. Arguments as in ``fit``."""
        if not self.__sklearn_is_fitted__():
            return self._fit(y, X, epochs=1, go_on=False, stop_early=False)
        before = len(self._rows)
        self.update(y, X)
        rows = self._rows[max(0, before - self._whole("context")) :]
        self._learn(self._stream(self._series(rows, len(rows)), "train", self._learner.seed), 1, None)
        return self

    def update(self, y: Any, X: Any = None) -> "Forecaster":
        """Read how the series goes on, without learning: forecasts then begin at its new end. Arguments as in ``fit``."""
        check_is_fitted(self, "_learner")
        self._rows = np.concatenate([self._rows, self._read(y, X, reset=False)])
        return self

    def predict(self, steps: int | None = None, X: Any = None) -> np.ndarray:
        """The next values.

        Args:
            steps: N, how many; None: the horizon.
            X: (N, C) what is known beforehand of these steps; needed if ``fit`` was given such columns.

        Returns:
            (N,) or (N, V), as y was.

        Raises:
            NotFittedError: before ``fit``.
            ValueError: X has too few rows, or other columns.
        """
        rolled = self._rolled(steps, X, self.coverage)
        return self._undone(rolled.point)

    def predict_interval(self, steps: int | None = None, X: Any = None, coverage: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Where the next values lie with a probability.

        Args:
            steps, X: as in ``predict``; at most the horizon.
            coverage: the probability; None: the parameter. Quantiles know the one that they learned alone.

        Returns:
            The lower and the upper end, each as ``predict`` returns it.

        Raises:
            ValueError: the loss has no interval, or not this one; more steps than the horizon.
        """
        K, asked = self._network().horizon, self.coverage if coverage is None else coverage
        if not 0 < asked < 1:
            raise InputError(f"coverage is {asked!r}; expected a probability above 0 and below 1, such as 0.8.")
        if steps is not None and steps > K:
            raise InputError(f"steps is {steps} and the horizon {K}; expected no more: intervals end there. Fit with horizon={steps}.")
        rolled = self._rolled(steps, X, asked)
        if rolled.low is None or rolled.high is None:
            raise InputError(
                f"loss={self.loss!r} has no interval of coverage {asked:g}; expected loss='gaussian', or 'quantiles' with that coverage. "
                "Fit with one of them."
            )
        return self._undone(rolled.low), self._undone(rolled.high)

    def score(self, y: Any, X: Any = None) -> float:
        """R² of all forecasts of K steps that begin at the end of the series that was read, or in ``y``, which goes on from there.

        Each forecast has read all that came before it. A mean over the targets.

        Args:
            y: as in ``fit``; at least K steps.
            X: what was known beforehand of these steps.

        Raises:
            ValueError: y is too short.
        """
        K, new = self._network().horizon, self._read(y, X, reset=False)
        if len(new) < K:
            raise InputError(f"y has {len(new)} steps; expected at least the horizon, {K}, to compare forecasts with. Give more.")
        series = self._series(np.concatenate([self._rows, new]), len(self._rows))
        found = backtest(self._network(), self._origins(series, "test", 64), window=_AT_A_TIME, level=self.coverage)
        errors = found.errors["model"].squared
        truth = np.lib.stride_tricks.sliding_window_view(new[:, : self._targets], K, axis=0)  # (origins, V, K)
        spread = np.nansum(np.square(truth - np.nanmean(truth, (0, 2), keepdims=True)), (0, 2))
        scores = np.where(spread > 0, 1 - errors / np.where(spread > 0, spread, 1), np.where(errors > 0, 0.0, 1.0))
        return float(scores.mean())

    def _fit(self, y: Any, X: Any, *, epochs: int, go_on: bool, stop_early: bool = True) -> "Forecaster":
        self._check_parameters()
        rows = self._read(y, X, reset=not go_on)
        N, K, shortest = len(rows), self._whole("horizon"), self._whole("context") + self._whole("horizon")
        held = max(K, round(self.validation_fraction * N)) if stop_early and self.early_stopping else 0
        if N - held < shortest:
            apart = f", {held} of them held out" if held else ""
            raise InputError(
                f"y has {N} steps{apart}; expected at least {shortest} to learn from, context and horizon together. Give a longer series, "
                "or lower one of them."
            )
        self._refuse_constant(rows[: N - held])
        if not go_on:
            vars(self).pop("_kept", None)
            vars(self).pop("_learner", None)
        series = self._series(rows, N - held)
        if not go_on:
            self._kept = series.mean[0], series.scale[0]
            self._begin(self._model, self._drawn_seed())
        self._rows = rows
        valid = self._stream(series, "test", None) if held else None
        self._learn(self._stream(series, "train", self._learner.seed), epochs, valid)
        return self

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._whole("horizon")
        self._whole("context")
        if not 0 < self.coverage < 1:
            raise InputError(f"coverage is {self.coverage!r}; expected a probability above 0 and below 1, such as 0.8.")

    def _read(self, y: Any, X: Any, *, reset: bool) -> np.ndarray:
        """Rows (N, V + C) in float64, the targets first."""
        found = array_of(y, "y", missing=True)
        if found.ndim > 2:
            raise ValueError(f"y has shape {found.shape}; expected (N,) or (N, targets), a row a step.")
        one, targets = found.ndim == 1, found.reshape(len(found), -1)
        if reset:
            self._one_number, self._targets = one, targets.shape[1]
        elif targets.shape[1] != self._targets:
            raise ValueError(f"y has {targets.shape[1]} targets, but {type(self).__name__} is expecting {self._targets}, as in fit.")
        known = self._known(X, reset=reset)
        if known is None:
            return targets
        check_consistent_length(targets, known)
        return np.concatenate([targets, known], 1)

    def _known(self, X: Any, *, reset: bool) -> np.ndarray | None:
        if X is not None and (reset or self.n_features_in_):
            return np.asarray(validate_data(self, X, dtype=np.float64, reset=reset))
        if reset:
            self.n_features_in_ = 0
            vars(self).pop("feature_names_in_", None)
        elif self.n_features_in_:
            raise ValueError(f"X is not given, and fit had {self.n_features_in_} columns that are known beforehand; expected them. Give X.")
        elif X is not None:
            raise ValueError("X is given, and fit had none; expected the same columns in both. Leave it out, or fit with it.")
        return None

    def _refuse_constant(self, rows: np.ndarray) -> None:
        for v in range(self._targets):
            values = rows[:, v][np.isfinite(rows[:, v])]
            if not len(values) or values.min() == values.max():
                what = "is constant" if len(values) else "has no value"
                raise ValueError(f"target {v} of y {what} where the network learns; expected values that change. Leave it out.")

    def _columns(self) -> Columns:
        return Columns(tuple(f"y{v}" for v in range(self._targets)), known=tuple(f"x{c}" for c in range(self.n_features_in_)))

    def _series(self, rows: np.ndarray, train: int) -> SeriesArrays:
        """Rows, of which the first ``train`` are for training and the others for a test; scales are measured on the first call."""
        N, kept = len(rows), getattr(self, "_kept", None)
        if kept is None and not self.standardize:
            kept = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        read = Read(rows.copy(), [""], [0.0], np.array([0, N]), [0], Calendar("row", 1.0), 0)
        groups = [Group("", 0.0, 0, train, train, N, N)]
        found = standardised("y", read, self._columns(), groups, kept={} if kept is None else {"": kept})
        return SeriesArrays(*found)

    def _origins(self, series: SeriesArrays, part: str, pieces: int) -> Origins:
        K, context = self._network().horizon, self._whole("context")
        return Origins(series, part, horizon=K, context=context, pieces=pieces, relative=self.relative)

    def _stream(self, series: SeriesArrays, part: str, seed: int | None) -> SequenceStream:
        origins = self._origins(series, part, self._whole("batch_size"))
        window = int(origins.lengths.max()) if self.window is None else self._whole("window")
        return SequenceStream(origins, batch_size=len(origins.pieces), window=window, seed=seed)

    def _model(self) -> models.Forecaster:
        V, K = self._targets, self._whole("horizon")
        return models.Forecaster(
            input_size(self._columns(), K),
            V,
            horizon=K,
            cell=self._cell(),
            hidden_size=self._whole("hidden_size"),
            num_layers=self._whole("num_layers"),
            dropout=self.dropout,
            loss=regression(self.loss, values=V * K, coverage=self.coverage),
        )

    def _network(self) -> models.Forecaster:
        model = self.model_
        assert isinstance(model, models.Forecaster), "_model makes it"
        return model

    def _rolled(self, steps: int | None, X: Any, coverage: float) -> Rolled:
        model = self._network()
        N = _check.positive("steps", model.horizon if steps is None else int(steps), most=1_000_000)
        known, (mean, scale) = self._known(X, reset=False), self._kept
        if known is not None and len(known) < N:
            raise ValueError(f"X has {len(known)} rows; expected {N}, one for each step that is forecast. Give more, or lower steps.")
        values = self._series(self._rows, len(self._rows)).open_values()
        V = self._targets
        told = np.zeros((0, 0), np.float32) if known is None else ((known - mean[V:]) / scale[V:]).astype(np.float32)
        return roll(model, self._columns(), values, told, N, level=coverage, relative=self.relative)

    def _undone(self, values: np.ndarray) -> np.ndarray:
        mean, scale = self._kept
        found = values * scale[: self._targets] + mean[: self._targets]
        return found[:, 0] if self._one_number else found
