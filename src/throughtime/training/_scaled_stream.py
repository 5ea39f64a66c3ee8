"""A stream whose steps come in the units of a file.

B streams side by side · D numbers of a step.
"""

from collections.abc import Sequence
from typing import final

import numpy as np
from torch import Tensor

from ..data import Pieces
from ._stream import Stream


@final
class ScaledStream:
    """``push(x_t)``, as ``Stream`` has it, for numbers as the run's own file has them.

    Args:
        stream: of the run's model.
        pieces: what its means and scales are from.
    """

    def __init__(self, stream: Stream, pieces: Pieces) -> None:
        self._stream, self._pieces = stream, pieces

    def push(self, x: np.ndarray | Sequence[float]) -> np.ndarray:
        """One step of every stream: o (B, V) from x (B, D), both without the axis B if there is one stream.

        Raises:
            InputError: x of another shape.
        """
        return self._stream.push(self._pieces.standardised(np.asarray(x, np.float64)))

    def reset(self, streams: Tensor | Sequence[bool] | None = None) -> None:
        """As ``Stream.reset``."""
        self._stream.reset(streams)
