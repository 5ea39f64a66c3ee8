"""Classes for sequences."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from .. import models
from ._estimator import SequenceEstimator
from ._inputs import array_of


@final
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceClassifier(ClassifierMixin, SequenceEstimator):
    """A recurrent network that reads a sequence and says which class it belongs to, or to which each of its steps does.

    ``models.SequenceClassifier``, trained by ``training.step``.

    Args:
        bidirectional: read each sequence in both directions; ``gradient`` then is one that reads whole sequences, such as "full".
        class_weight: "balanced", or {class: weight}: a factor of the loss of each sequence; for each="sequence" alone.

    The other parameters are those of ``SequenceEstimator`` and ``NetworkEstimator``.

    Attributes:
        classes_: the labels, in order; the columns of ``predict_proba``.
        model_: the network, in evaluation mode.
        loss_curve_, validation_losses_: a number an epoch.
        n_iter_: epochs done.
        n_features_in_: F, or the columns of a table.
        feature_names_in_: of a table whose columns have names.

    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(T, 2)) for T in rng.integers(3, 9, 64)]
    >>> y = ["up" if x[:, 0].sum() > 0 else "down" for x in X]
    >>> classifier = SequenceClassifier(hidden_size=16, epochs=40, random_state=0).fit(X, y)
    >>> bool(classifier.score(X, y) > 0.9), classifier.classes_.tolist()
    (True, ['down', 'up'])
    """

    bidirectional: bool = False
    class_weight: Any = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "SequenceClassifier":
        """Learn from sequences and their labels; ``SequenceEstimator.fit`` says in which forms.

        Raises:
            ValueError: also where there is one class only.
        """
        self._given: np.ndarray | None = None
        return super().fit(X, y, sample_weight)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> "SequenceClassifier":
        """One epoch over these sequences; the first call also measures the scales.

        Args:
            X, y, sample_weight: as in ``fit``.
            classes: all labels there will be; needed in the first call if ``y`` does not have them all.

        Raises:
            ValueError: labels that are not among the classes of the first call.
        """
        self._given = None if classes is None else np.unique(classes)
        self._fit(X, y, sample_weight, epochs=1, go_on=self.__sklearn_is_fitted__(), stop_early=False)
        return self

    def predict_proba(self, X: Any) -> Any:
        """p of each class, in the order of ``classes_``: (n, C), or for each="step" (n, T, C), or a list of arrays where X is a list.

        Raises:
            NotFittedError: before ``fit``.
            ValueError: X has other features than in ``fit``.
        """
        return self._together(self._outputs(X), X)

    def predict(self, X: Any) -> Any:
        """The likeliest class: (n,), or for each="step" (n, T), or a list of arrays where X is a list. Raises as ``predict_proba``."""
        return self._together([self.classes_[p.argmax(-1)] for p in self._outputs(X)], X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of right answers; for each="step" of all steps together."""
        if self.each == "sequence":
            return float(super().score(X, y, sample_weight))
        check_is_fitted(self, "_learner")
        weights = None if sample_weight is None else np.repeat(sample_weight, [len(one) for one in y])
        return float(accuracy_score(np.concatenate(list(y)), np.concatenate(list(self.predict(X))), sample_weight=weights))

    def _targets_of(self, y: Any, sequences: list[np.ndarray], *, go_on: bool) -> list[np.ndarray]:
        if self.each == "sequence":
            labels = column_or_1d(y, warn=True)
            return [np.asarray(number) for number in self._numbered(labels, go_on=go_on)]
        rows = [column_or_1d(one) for one in y]
        self._check_steps(sequences, rows)
        numbers = self._numbered(np.concatenate(rows), go_on=go_on)
        return np.split(numbers, np.cumsum([len(row) for row in rows])[:-1])

    def _numbered(self, labels: np.ndarray, *, go_on: bool) -> np.ndarray:
        """The number of each label among ``classes_``."""
        check_classification_targets(array_of(labels, "y") if labels.dtype.kind == "f" else labels)
        there = np.unique(labels)
        if not go_on:
            self.classes_ = there if self._given is None else self._given
        classes = self.classes_
        if unknown := sorted(set(there.tolist()) - set(classes.tolist())):
            raise ValueError(f"y has the class {unknown[0]!r}, which is not among {classes.tolist()!r:.80}; expected only these. Fit anew.")
        if len(classes) < 2:
            raise ValueError(
                f"y has one class only, {classes.tolist()[0]!r}; expected at least two to choose among. Give sequences of another class."
            )
        return np.searchsorted(classes, labels)

    def _weights_of(self, sample_weight: Any, n: int, y: Any) -> np.ndarray:
        weights = super()._weights_of(sample_weight, n, y)
        if self.class_weight is None:
            return weights
        if self.each == "step":
            raise ValueError("class_weight is given with each='step'; expected each='sequence', where a sequence has one class.")
        return weights * compute_sample_weight(self.class_weight, column_or_1d(y))

    def _model(self, features: int) -> models.SequenceClassifier:
        return models.SequenceClassifier(
            features,
            len(self.classes_),
            each=self.each,
            bidirectional=self.bidirectional,
            cell=self._cell(),
            hidden_size=self._whole("hidden_size"),
            num_layers=self._whole("num_layers"),
            dropout=self.dropout,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
