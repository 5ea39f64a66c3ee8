"""Estimators that answer for whole sequences, or for each of their steps: from X to examples, and from outputs to answers.

T time · B batch · F features · V outputs.
"""

import abc
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from .. import _check
from ..data import SequenceStream
from ..models import AbstractModel
from ..nn import Bidirectional
from ._examples import Each, Examples, Scales
from ._inputs import array_of, sequences_of
from ._network import NetworkEstimator

_TOGETHER = 32  # sequences are always read so many side by side, so that an answer does not depend, in its last bits, on the others
_AT_A_TIME = 512  # steps of them


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceEstimator(NetworkEstimator, abc.ABC):
    """What a regressor and a classifier of sequences have in common.

    Args:
        each: one target for each "sequence", or one for each "step" of it.
    """

    each: Each = "sequence"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Learn from sequences and their targets.

        Args:
            X: (n, T, F) numbers; a list of n arrays (T_i, F), or (T_i,) of one feature; or a table (n, T), whose columns are the steps of
                one feature.
            y: a target for each sequence; for each="step" one for each step, (n, T) or a list of arrays of T_i rows.
            sample_weight: (n,) the weight of each sequence's loss, in proportion to their mean; None: all alike.

        Returns:
            The estimator.

        Raises:
            ValueError: a parameter that means nothing, sequences and targets that do not fit each other.
        """
        self._fit(X, y, sample_weight, epochs=self._whole("epochs"), go_on=self.warm_start and self.__sklearn_is_fitted__())
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, epochs: int, go_on: bool, stop_early: bool = True) -> None:
        self._check_parameters()
        _check.one_of("each", self.each, ("sequence", "step"))
        sequences, table = sequences_of(self, X, reset=not go_on)
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        targets = self._targets_of(y, sequences, go_on=go_on)
        check_consistent_length(sequences, targets)
        weights = self._weights_of(sample_weight, len(sequences), y)
        some = np.flatnonzero(weights)
        sequences, targets, weights = [sequences[i] for i in some], [targets[i] for i in some], weights[some] / weights[some].mean()
        seed = self._learner.seed if go_on else self._drawn_seed()
        train, valid = self._divided(targets, seed) if stop_early and self.early_stopping else (np.arange(len(sequences)), None)
        if not go_on:
            self._from_table = table
            self._measure([sequences[i] for i in train], [targets[i] for i in train], weights[train])
            self._begin(lambda: self._model(sequences[0].shape[1]), seed)
        examples = self._examples(sequences, targets, weights)
        stream = self._stream(examples.chosen(train), self._whole("batch_size"), seed)
        self._learn(stream, epochs, None if valid is None else self._stream(examples.chosen(valid), _TOGETHER, None))

    def _weights_of(self, sample_weight: Any, n: int, y: Any) -> np.ndarray:
        """(n,)"""
        if sample_weight is None:
            return np.ones(n)
        weights = array_of(sample_weight, "sample_weight")
        if weights.shape != (n,) or (weights < 0).any():
            raise ValueError(f"sample_weight has shape {weights.shape}; expected ({n},), a weight for each sequence, none below zero.")
        if not weights.any():
            raise ValueError("sample_weight has no weight above zero: every entry is zero; expected some above it. Give other weights.")
        return weights

    @staticmethod
    def _check_steps(sequences: list[np.ndarray], rows: list[np.ndarray]) -> None:
        check_consistent_length(sequences, rows)
        for i, (x, row) in enumerate(zip(sequences, rows, strict=True)):
            if len(x) != len(row):
                raise ValueError(f"y[{i}] has {len(row)} rows and X[{i}] has {len(x)} steps; expected a row for each step.")

    def _divided(self, targets: list[np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Which sequences to learn from, and which to hold out."""
        if (n := len(targets)) < 2:
            raise ValueError(
                f"early_stopping holds sequences out, and X has {n} sample(s); expected at least 2. Give more, or leave it out."
            )
        held = min(max(1, round(self.validation_fraction * n)), n - 1)
        train, valid = train_test_split(np.arange(n), test_size=held, random_state=seed)
        return train, valid

    def _measure(self, sequences: list[np.ndarray], targets: list[np.ndarray], weights: np.ndarray) -> None:
        """Means and scales of what the network learns from."""
        self._scales = self._scales_of(sequences, weights)

    def _scales_of(self, arrays: list[np.ndarray], weights: np.ndarray) -> Scales:
        """Of the columns of some arrays, each with a weight."""
        if not self.standardize:
            return Scales.none(arrays[0].shape[1])
        return Scales.of(np.concatenate(arrays), np.repeat(weights, [len(a) for a in arrays]))

    def _examples(self, sequences: list[np.ndarray], targets: list[np.ndarray], weights: np.ndarray) -> Examples:
        return Examples([self._scales.apply(x) for x in sequences], targets, self.each, weights)

    def _stream(self, examples: Examples, batch_size: int, seed: int | None) -> SequenceStream:
        window = int(examples.lengths.max()) if self.window is None else self._whole("window")
        return SequenceStream(examples, batch_size=min(batch_size, len(examples.lengths)), window=window, seed=seed)

    @abc.abstractmethod
    def _targets_of(self, y: Any, sequences: list[np.ndarray], *, go_on: bool) -> list[np.ndarray]:
        """What the network is to answer for each sequence, or for each of its steps."""

    @abc.abstractmethod
    def _model(self, features: int) -> AbstractModel:
        """The network, its weights drawn from torch's global generator."""

    def _outputs(self, X: Any) -> list[np.ndarray]:
        """ŷ of each sequence (V,), or of its steps (T_i, V)."""
        check_is_fitted(self, "_learner")
        sequences, _ = sequences_of(self, X, reset=False)
        return _answers(self._learner.model, [self._scales.apply(x) for x in sequences], self.each)

    def _together(self, answers: list[Any], X: Any) -> Any:
        """One array, or a list where X is a list and there is an answer for each step."""
        return answers if self.each == "step" and isinstance(X, (list, tuple)) else np.stack(answers)


@torch.no_grad()
def _answers(model: AbstractModel, inputs: list[np.ndarray], each: Each) -> list[np.ndarray]:
    """ŷ = f(V h + c) after each sequence, or at each of its steps."""
    examples = Examples(inputs, [np.zeros(1, np.float32)] * len(inputs), "sequence")
    longest = int(examples.lengths.max())
    window = longest if isinstance(model.recurrence, Bidirectional) else min(longest, _AT_A_TIME)
    stream = SequenceStream(examples, batch_size=_TOGETHER, window=window)
    found: list[list[np.ndarray]] = [[] for _ in inputs]
    state = None
    for i in range(len(stream)):
        places, _ = stream.layout(i)
        batch = stream[i].to(model.head.weight.device)
        hs, state = model.recurrence(model.enter(batch), model.initial_state(batch.B) if places[0].start == 0 else state)
        ends = [max(0, stop - start - 1) for _, start, stop in places]
        hs = hs if each == "step" else hs[ends + [0] * (batch.B - len(ends)), torch.arange(batch.B)].unsqueeze(0)
        ys = model.head.predict(hs).cpu().numpy()
        for b, (i, start, stop) in enumerate(places):
            if each == "step" and stop > start:
                found[i].append(ys[: stop - start, b])
            elif start < stop == len(inputs[i]):
                found[i].append(ys[0, b])
    return [np.concatenate(parts) if each == "step" else parts[0] for parts in found]
