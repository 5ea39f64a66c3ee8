"""Real numbers for sequences."""

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from .. import _check
from ..models import Head, Linear, SequenceModel, Vectors, regression
from ..nn import Recurrence
from ._estimator import SequenceEstimator
from ._examples import Examples
from ._inputs import numbers_of


@final
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceRegressor(RegressorMixin, SequenceEstimator):
    """A recurrent network that reads a sequence and answers with one or several real numbers, or with some at each step.

    ``SequenceModel`` over ``Vectors``, trained by ``training.step``. Use ``Forecaster`` for what comes next in a series.

    Args:
        loss: "squared", "absolute" or "huber", of the targets as they are standardised; a mean over the targets of a sequence or step.

    The other parameters are those of ``SequenceEstimator`` and ``NetworkEstimator``.

    Attributes:
        model_: the network, a ``SequenceModel`` in evaluation mode.
        loss_curve_, validation_losses_: a number an epoch.
        n_iter_: epochs done.
        n_features_in_: F, or the columns of a table.
        feature_names_in_: of a table whose columns have names.

    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(T, 2)) for T in rng.integers(3, 9, 64)]
    >>> y = [x[:, 0].sum() for x in X]
    >>> regressor = SequenceRegressor(hidden_size=16, epochs=40, random_state=0).fit(X, y)
    >>> bool(regressor.score(X, y) > 0.9)
    True
    """

    loss: Literal["squared", "absolute", "huber"] = "squared"

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "SequenceRegressor":
        """One epoch over these sequences; the first call also measures the scales. Arguments as in ``fit``."""
        self._fit(X, y, sample_weight, epochs=1, go_on=self.__sklearn_is_fitted__(), stop_early=False)
        return self

    def predict(self, X: Any) -> Any:
        """The answers: (n,) or (n, V) as y was; for each="step" (n, T) or (n, T, V), or a list of arrays where X is a list.

        Raises:
            NotFittedError: before ``fit``.
            ValueError: X has other features than in ``fit``.
        """
        found = [self._target_scales.undo(o) for o in self._outputs(X)]
        return self._together([o[..., 0] for o in found] if self._one_number else found, X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² of the answers, a mean over the targets; for each="step" over all steps together."""
        if self.each == "sequence":
            return float(super().score(X, y, sample_weight))
        check_is_fitted(self, "_learner")
        weights = None if sample_weight is None else np.repeat(sample_weight, [len(one) for one in y])
        return float(r2_score(np.concatenate(list(y)), np.concatenate(list(self.predict(X))), sample_weight=weights))

    def _targets_of(self, y: Any, sequences: list[np.ndarray], *, go_on: bool) -> list[np.ndarray]:
        rows = [numbers_of(one) for one in y] if self.each == "step" else [numbers_of(y)]
        one_number, columns = rows[0].ndim == 1, {1 if row.ndim == 1 else row.shape[1] for row in rows}
        if len(columns) > 1 or (go_on and (one_number, max(columns)) != (self._one_number, len(self._target_scales.mean))):
            wanted = "the same number of targets in each" if len(columns) > 1 else f"{len(self._target_scales.mean)}, as in fit"
            found = f"{min(columns)} to {max(columns)}" if len(columns) > 1 else f"{max(columns)}"
            raise ValueError(f"y has {found} targets; expected {wanted}.")
        rows = [row.reshape(len(row), -1) for row in rows]
        self._one_number = one_number
        if self.each == "sequence":
            return list(rows[0])
        self._check_steps(sequences, rows)
        return rows

    def _measure(self, sequences: list[np.ndarray], targets: list[np.ndarray], weights: np.ndarray) -> None:
        super()._measure(sequences, targets, weights)
        self._target_scales = self._scales_of([y.reshape(-1, y.shape[-1]) for y in targets], weights)

    def _examples(self, sequences: list[np.ndarray], targets: list[np.ndarray], weights: np.ndarray) -> Examples:
        return super()._examples(sequences, [self._target_scales.apply(y) for y in targets], weights)

    def _model(self, features: int) -> SequenceModel:
        H, V = self._whole("hidden_size"), len(self._target_scales.mean)
        _check.one_of("loss", self.loss, ("squared", "absolute", "huber"))
        loss = regression(self.loss, values=V)
        recurrence = Recurrence(self._cell(), features, H, num_layers=self._whole("num_layers"), dropout=self.dropout)
        return SequenceModel(Vectors(features), recurrence, Head(H, V, output=Linear(), loss=loss), dropout=self.dropout)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.input_tags.three_d_array = True
        return tags
