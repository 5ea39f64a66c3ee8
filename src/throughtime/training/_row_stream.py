"""A run of rows, frames or features, that answers one step at a time in the units of its own file.

B streams side by side · D width of a row.
"""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from .._check import InputError
from .._shapes import State
from ..data import Pieces
from ..models import AbstractModel
from ._stream import Stream


@final
class RowStream:
    """``push(row)`` takes a row as the run's file has it, and gives the run's answer to all that has been read. The state is kept.

    Args:
        model: the network.
        pieces: for means and scales.
        answer: from the head's output (B, ·) to the answer (B, ·).
        streams: B.
    """

    def __init__(self, model: AbstractModel, pieces: Pieces, answer: Callable[[Tensor], Tensor | np.ndarray], streams: int) -> None:
        self._stream, self._pieces, self._answer = Stream(model, streams), pieces, answer
        self._width, self._device = model.recurrence.input_size, model.head.weight.device
        self.streams = streams

    def push(self, row: Any) -> np.ndarray:
        """One step of every stream.

        Args:
            row: (B, D); without the axis B if there is one stream.

        Returns:
            The answer (B, ·); without the axis B if the row has none.

        Raises:
            InputError: a row of another shape, numbers that are not finite.
        """
        values = np.asarray(row, np.float64)
        one = values.ndim == 1 and self.streams == 1
        if not (one or values.ndim == 2) or values.shape[-1] != self._width or not np.isfinite(values).all():
            raise InputError(f"row has shape {values.shape}; expected finite numbers of shape {(self.streams, self._width)}.")
        rows = self._pieces.standardised(values[None] if one else values)
        answer = np.asarray(self._answer(self._stream.push(torch.from_numpy(rows).to(self._device))))
        return answer[0] if one else answer

    def reset(self, streams: Any = None) -> None:
        """Begin anew: all streams, or those that are True in (B,)."""
        self._stream.reset(streams)

    @property
    def state(self) -> State:
        """A copy of the network's state, S tensors (L, B, H)."""
        return self._stream.state
