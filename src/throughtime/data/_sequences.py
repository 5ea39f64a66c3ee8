"""Many sequences as B streams side by side, in windows of T steps: sequences of like length together, each from a fresh start.

T time · B batch · I input · V targets.
"""

import abc
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from .. import _check
from .._check import InputError
from ._batch import Batch
from ._stream import AbstractStream

_MOST_AT_ONCE = 16  # windows
_BYTES_AT_ONCE = 4 << 20


class Steps(NamedTuple):
    """Some steps of one sequence."""

    inputs: np.ndarray  # (T, I)
    targets: np.ndarray  # (T, V), or (T,) indices
    counts: np.ndarray  # (T,) bool: which losses count
    weights: np.ndarray | None = None  # (T,) of the losses; then ``counts`` says which steps are no padding


class AbstractSequences(abc.ABC):
    """Sequences that can be read in parts.

    Attributes:
        lengths: (N,) the steps of each.
    """

    lengths: np.ndarray

    @abc.abstractmethod
    def read(self, i: int, start: int, stop: int) -> Steps:
        """Steps start..stop−1 of sequence i."""

    def side_by_side(self, numbers: np.ndarray, start: int, T: int) -> Steps:
        """Steps start..start+T−1 of some sequences, (T, B, ·) each; zeros that do not count where a sequence has ended.

        At least one of them has a step there. By default they are read one after another.
        """
        inputs, targets, mask, weights = None, None, np.zeros((T, len(numbers)), bool), None
        for b, (i, length) in enumerate(zip(numbers.tolist(), self.lengths[numbers].tolist(), strict=True)):
            n = min(T, length - start)
            if n <= 0:
                continue
            steps = self.read(i, start, start + n)
            if inputs is None or targets is None:
                inputs = np.zeros((*mask.shape, *steps.inputs.shape[1:]), steps.inputs.dtype)
                targets = np.zeros((*mask.shape, *steps.targets.shape[1:]), steps.targets.dtype)
            inputs[:n, b], targets[:n, b], mask[:n, b] = steps.inputs, steps.targets, steps.counts
            if steps.weights is not None:
                weights = np.zeros(mask.shape, np.float32) if weights is None else weights  # either all have weights, or none
                weights[:n, b] = steps.weights
        assert inputs is not None, "a window has a step of the longest sequence of its row"
        assert targets is not None
        return Steps(inputs, targets, mask, weights)


class Place(NamedTuple):
    """What a stream of a batch reads."""

    sequence: int
    start: int
    stop: int


class _Window(NamedTuple):
    """Which steps a batch has."""

    epoch: int
    row: int  # of sequences, in the epoch's order
    start: int
    T: int


@final
class SequenceStream(AbstractStream):
    """Windows over sequences. B sequences of like length begin together and end together; shorter ones are padded, and masked there.

    The first window of each such row of sequences marks every stream ``fresh``; the windows after it go on with the same sequences.

    Args:
        sequences: where the steps come from.
        batch_size: B.
        window: T, at most; a row of shorter sequences has windows as long as its longest.
        seed: each pass has an order of its own, drawn from the seed and the number of the pass; None: the sequences' own order.

    Raises:
        InputError: there is no sequence, or none has a step.

    >>> class Ramps(AbstractSequences):
    ...     lengths = np.array([5, 2, 4])
    ...     def read(self, i, start, stop):
    ...         x = np.arange(start, stop, dtype=np.float32)[:, None]
    ...         return Steps(x, x + 1, np.ones(stop - start, bool))
    >>> stream = SequenceStream(Ramps(), batch_size=2, window=3)
    >>> [(batch.T, batch.fresh.tolist(), batch.counted()) for batch in stream]
    [(3, [True, True], 6), (2, [False, False], 3), (2, [True, True], 2)]
    """

    def __init__(self, sequences: AbstractSequences, *, batch_size: int, window: int, seed: int | None = None) -> None:
        self.sequences, self.seed = sequences, seed
        self.batch_size = _check.positive("batch size", batch_size)
        self.window = _check.positive("window", window)
        longest = np.sort(sequences.lengths[sequences.lengths > 0])
        if not len(longest):
            raise InputError("there is no sequence with a step in it; expected at least one. Give more data.")
        self._ends = [row[-1] for row in _rows(longest, batch_size)]  # the steps of each row of sequences
        self._windows = np.array([-(-int(end) // window) for end in self._ends])
        self._windows_in_all = int(self._windows.sum())
        self._order, self._block = lru_cache(2)(self._drawn), lru_cache(1)(self._read)

    def __len__(self) -> int:
        """Windows in one pass."""
        return self._windows_in_all

    def __getitem__(self, i: int) -> Batch:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.at(i)

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))

    def at(self, step: int) -> Batch:
        """The batch of a training step: the same for the same seed and step. It is a part of a larger array, which nobody may change."""
        place = self._window(step)
        span = self.window * self._at_once
        first = place.start % span
        parts = (x if x is None else x[first : first + place.T] for x in self._block(place.epoch, place.row, place.start // span))
        inputs, targets, mask, weights = parts
        assert inputs is not None, "only weights may be missing"
        return Batch(inputs, targets, mask=mask, weights=weights, fresh=torch.full((self.batch_size,), place.start == 0))

    def layout(self, step: int) -> tuple[list[Place], int]:
        """What each stream reads in a step, and the step's T; fewer places than B where the sequences have come to an end."""
        epoch, row, start, T = self._window(step)
        lengths = self.sequences.lengths
        return [Place(int(s), start, min(start + T, int(lengths[s]))) for s in self._order(epoch)[0][row]], T

    def _window(self, step: int) -> "_Window":
        epoch, i = divmod(step, len(self))
        epoch = epoch if self.seed is not None else 0
        rows, firsts = self._order(epoch)
        row = bisect_right(firsts, i) - 1
        start = (i - firsts[row]) * self.window
        return _Window(epoch, row, start, min(self.window, int(self.sequences.lengths[rows[row][-1]]) - start))

    @cached_property
    def _at_once(self) -> int:
        """How many windows are read together: a call for each would take longer than the reading."""
        (first,) = self._order(0)[0][:1]
        bytes_a_step = sum(x.nbytes for x in self.sequences.side_by_side(first, 0, 1) if x is not None)
        return min(_MOST_AT_ONCE, max(1, _BYTES_AT_ONCE // (bytes_a_step * self.window)))

    def _read(self, epoch: int, row: int, block: int) -> list[Tensor | None]:
        """Inputs, targets, mask and weights of as many windows as are read together."""
        numbers, span = self._order(epoch)[0][row], self.window * self._at_once
        T = min(span, int(self.sequences.lengths[numbers[-1]]) - block * span)
        steps = self.sequences.side_by_side(numbers, block * span, T)
        return [None if x is None else torch.from_numpy(self._filled(x)) for x in steps]

    def _filled(self, array: np.ndarray) -> np.ndarray:
        """(T, B, ·): a row of fewer sequences than B has streams of zeros beside them."""
        if array.shape[1] == self.batch_size:
            return array
        filled = np.zeros((len(array), self.batch_size, *array.shape[2:]), array.dtype)
        filled[:, : array.shape[1]] = array
        return filled

    def _drawn(self, epoch: int) -> tuple[list[np.ndarray], list[int]]:
        """The rows of sequences of a pass, the longest one last in each, and the number of each one's first window."""
        lengths = self.sequences.lengths
        generator = None if self.seed is None else np.random.default_rng([self.seed, epoch])
        order = np.arange(len(lengths)) if generator is None else generator.permutation(len(lengths))
        order = order[lengths[order] > 0]
        rows = _rows(order[np.argsort(lengths[order], kind="stable")], self.batch_size)
        turn = np.arange(len(rows))[::-1] if generator is None else generator.permutation(len(rows))
        firsts = np.concatenate(([0], np.cumsum(self._windows[turn])[:-1]))
        return [rows[i] for i in turn], firsts.tolist()


def _rows(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows of ``size``; the first one, which has the shortest sequences, may not be full."""
    first = len(order) % size
    return ([order[:first]] if first else []) + [order[i : i + size] for i in range(first, len(order), size)]
