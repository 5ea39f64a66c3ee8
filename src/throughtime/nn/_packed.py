"""A layer over packed sequences, a part of time after another, so that little of the work and of the memory is padding.

Packed data are the rows of step 0, then those of step 1, and so on; the longest sequence is first in each step (``torch.nn.utils.rnn``).
The kernels need an array, so the rows are copied to their places among zeros. Where one sequence has 1000 steps and 255 have 10, one
array of all would be mostly padding; two arrays, (10, 256) and (990, 1), have none. Each further array costs a call, so time is cut only
where that saves enough.

T time · B sequences · N packed rows · I input · S states.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._shapes import State
from ..kernels import Traversal

A_CALL = 512  # steps of padding whose work is that of one more call, for small layers; each unit adds to it, since a call reads all weights
Run = Callable[[Tensor, State, Traversal], tuple[Tensor, State]]  # a layer in one direction: (xs, state, traversal) → (hs, last)


class Part(NamedTuple):
    """Some consecutive steps, and the sequences that have not ended before the first of them."""

    start: int
    stop: int
    rows: int
    lengths: Tensor | None  # (rows,) steps of each sequence in this part; None: all of them
    places: Tensor | None  # of the packed rows among the steps × rows of the array; None: they are the array

    @property
    def packed_rows(self) -> int:
        return (self.stop - self.start) * self.rows if self.places is None else len(self.places)

    def pad(self, data: Tensor) -> Tensor:
        """(steps, rows, ·) from this part's packed rows."""
        shape = (self.stop - self.start, self.rows)
        if self.places is None:
            return data.unflatten(0, shape)
        zeros = data.new_zeros(shape[0] * shape[1], data.shape[1])
        return zeros.index_copy_(0, self.places.to(data.device), data).unflatten(0, shape)

    def pack(self, hs: Tensor) -> Tensor:
        """The reverse of ``pad``."""
        rows = hs.flatten(0, 1)
        return rows if self.places is None else rows.index_select(0, self.places.to(hs.device))

    def traversal(self, of_all: Traversal) -> Traversal:
        """This part of a traversal of all steps."""
        return Traversal(
            None if self.lengths is None or of_all.lengths is None else self.lengths.to(of_all.lengths.device),
            None if of_all.reset is None else of_all.reset[self.start : self.stop, : self.rows],
            None if of_all.restart is None else tuple(s[: self.rows] for s in of_all.restart),
            of_all.reverse,
        )


def padding_worth_a_call(layer: Any) -> float:
    """For ``parts_of``."""
    return A_CALL + 2 * (layer.input_size + layer.hidden_size)


def parts_of(sizes: np.ndarray, worth: float) -> list[Part]:
    """Cut time where that spares at least ``worth`` steps of padding.

    Args:
        sizes: (T,) sequences in each step, never more than in the step before.

    >>> sizes = np.array([4, 4, 1, 1, 1, 1])
    >>> [(part.start, part.rows, part.lengths) for part in parts_of(sizes, 6)]
    [(0, 4, None), (2, 1, None)]
    >>> [(part.start, part.rows, part.lengths) for part in parts_of(sizes, 13)]
    [(0, 4, tensor([6, 2, 2, 2]))]
    """
    T, lengths = len(sizes), lengths_of(sizes)
    starts = [0, *_cuts(sizes, worth)] if T * sizes[0] - sizes.sum() >= worth else [0]
    return [_part(sizes, lengths, start, stop) for start, stop in zip(starts, [*starts[1:], T], strict=True)]


def lengths_of(sizes: np.ndarray) -> np.ndarray:
    """(B,) the steps of each sequence.

    >>> lengths_of(np.array([3, 2, 2])).tolist()
    [3, 3, 1]
    """
    return np.searchsorted(-sizes, -np.arange(sizes[0]))  # sequence b has the steps t with sizes[t] > b


def run_parts(parts: list[Part], run: Run, data: Tensor, state: State, traversal: Traversal) -> tuple[Tensor, State]:
    """One layer in one direction over packed rows.

    Args:
        data: (N, I).
        state: S tensors (B, ·) before the first step, in the packed order.

    Returns:
        The output (N, ·), and the last state of each sequence, S tensors (B, ·).
    """
    if len(parts) == 1:
        hs, last = run(parts[0].pad(data), state, traversal)
        return parts[0].pack(hs), last
    outputs: list[Tensor] = []
    given = list(zip(parts, data.split([part.packed_rows for part in parts]), strict=True))
    for part, rows in reversed(given) if traversal.reverse else given:
        hs, ends = run(part.pad(rows), tuple(s[: part.rows] for s in state), part.traversal(traversal))
        outputs.append(part.pack(hs))
        state = tuple(torch.cat((end, s[part.rows :])) for end, s in zip(ends, state, strict=True))
    return torch.cat(outputs[::-1] if traversal.reverse else outputs), state


def _part(sizes: np.ndarray, lengths: np.ndarray, start: int, stop: int) -> Part:
    within = sizes[start:stop]
    rows, fewest = int(within[0]), int(within[-1])
    if rows == fewest:
        return Part(start, stop, rows, None, None)
    places = np.flatnonzero(np.arange(rows) < within[:, None])
    return Part(start, stop, rows, torch.from_numpy(np.minimum(lengths[:rows] - start, stop - start)), torch.from_numpy(places))


def _cuts(sizes: np.ndarray, worth: float) -> list[int]:
    """Where to cut: each time at the place that spares the most padding, in what lies before it and in what lies after it."""
    found, pending = [], [(0, len(sizes))]
    while pending:
        start, stop = pending.pop()
        spared = (sizes[start] - sizes[start:stop]) * (stop - np.arange(start, stop))
        best = int(spared.argmax())
        if best and spared[best] >= worth:
            found.append(start + best)
            pending += [(start, start + best), (start + best, stop)]
    return sorted(found)
