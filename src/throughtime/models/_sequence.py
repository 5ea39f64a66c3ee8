"""The general model: any input station, any recurrence and any head."""

from typing import Literal, final

from .. import _check
from ..nn import Recurrence
from ._base import AbstractModel
from ._head import Head
from ._inputs import AbstractInput


@final
class SequenceModel(AbstractModel):
    """A model made of an input station, a recurrence and a head.

    Args:
        input: ``Embedding(V, E) OneHot(V) Vectors(I)``.
        recurrence: a stack whose ``input_size`` is the input station's ``size``.
        head: a head over the stack's ``hidden_size``.
        dropout: the probability of dropout, in training, on the recurrence's input and on its output.
        input_dropout: the same of the input alone; None: ``dropout``.
        reduction: the loss is the "mean" of the losses that count, or their "sum".

    Raises:
        InputError: sizes of neighbouring stations that differ.

    >>> from throughtime import cells, nn
    >>> from throughtime.models import Head, Linear, SquaredError, Vectors
    >>> forecaster = SequenceModel(Vectors(2), nn.Recurrence(cells.LSTM(), 2, 8), Head(8, 2, output=Linear(), loss=SquaredError()))
    >>> [tuple(s.shape) for s in forecaster.initial_state(3)]
    [(1, 3, 8), (1, 3, 8)]
    """

    def __init__(
        self,
        input: AbstractInput,
        recurrence: Recurrence,
        head: Head,
        *,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        if input.size != recurrence.input_size or head.weight.shape[1] != recurrence.hidden_size:
            raise _check.InputError(
                f"the stations do not fit: the input gives vectors of {input.size} and the recurrence takes {recurrence.input_size}; the "
                f"recurrence gives {recurrence.hidden_size} and the head takes {head.weight.shape[1]}. Make each pair equal."
            )
        self._set_stations(input, recurrence, head, dropout=dropout, input_dropout=input_dropout, reduction=reduction)
