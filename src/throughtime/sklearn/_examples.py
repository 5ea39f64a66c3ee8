"""Sequences in memory, with what is to be learned of them.

T time · F features · V targets.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, final

import numpy as np

from ..data import AbstractSequences, Steps

Each = Literal["sequence", "step"]


@final
class Examples(AbstractSequences):
    """Sequences with a target each, which is compared with the answer after the last step, or with a target at each step.

    Args:
        inputs: (T_i, F) each.
        targets: of each sequence (V,), or an index (); or of its steps (T_i, V), or (T_i,) indices.
        each: what a target belongs to.
        weights: (n,) of each sequence's loss; None: ones.
    """

    def __init__(self, inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray], each: Each, weights: np.ndarray | None = None) -> None:
        self.lengths = np.array([len(x) for x in inputs], np.int64)
        self._inputs, self._targets = inputs, targets
        self._each: Each = each
        self._weights = np.ones(len(inputs), np.float32) if weights is None else weights.astype(np.float32)

    def read(self, i: int, start: int, stop: int) -> Steps:
        y, at = self._targets[i], np.arange(start, stop)
        targets = y[start:stop] if self._each == "step" else np.broadcast_to(y, (len(at), *y.shape))
        labelled = np.ones(len(at), bool) if self._each == "step" else at == self.lengths[i] - 1
        weights = np.where(labelled, self._weights[i], np.float32(0))
        return Steps(self._inputs[i][start:stop], targets, np.ones(len(at), bool), weights)

    def chosen(self, rows: np.ndarray) -> "Examples":
        """Some of them."""
        return Examples([self._inputs[i] for i in rows], [self._targets[i] for i in rows], self._each, self._weights[rows])


class Scales(NamedTuple):
    """Means and standard deviations; a feature that is constant keeps its scale."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, weights: np.ndarray) -> "Scales":
        """Those of the columns of ``rows``, each row as often as its weight says."""
        mean = np.average(rows, 0, weights)
        scale = np.sqrt(np.average(np.square(rows - mean), 0, weights))
        return cls(mean, np.where(scale > 1e-12 * np.maximum(1, np.abs(mean)), scale, 1.0))

    @classmethod
    def none(cls, columns: int) -> "Scales":
        """Those that change nothing."""
        return cls(np.zeros(columns), np.ones(columns))

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """To a mean of 0 and a standard deviation of 1, float32."""
        return ((rows - self.mean) / self.scale).astype(np.float32)

    def undo(self, rows: np.ndarray) -> np.ndarray:
        """Back to what they were, in float64."""
        return rows * self.scale + self.mean
