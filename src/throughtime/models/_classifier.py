"""A classifier of sequences: it reads vectors and says which class a whole sequence, or each of its steps, belongs to.

T time · B batch · I input · H hidden · C classes.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, final, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import _check
from ..cells import GRU, AbstractCell
from ..data import Batch, mask_of_lengths
from ..nn import AbstractInitial, AbstractInitialiser, Bidirectional, Padded, Recurrence, Rows, TorchUniform, Zeros
from ._base import AbstractModel
from ._config import CELLS, from_plain
from ._head import Head
from ._inputs import Vectors

Each = Literal["sequence", "step"]


@final
class SequenceClassifier(AbstractModel):
    """p(class) = softmax(V h_t + c): of the whole sequence at its last step t, or of each step.

    A batch has class indices as targets (T, B). Where a step has no label its weight is 0. For one label a sequence all weights are 0
    but that of the last step; ``data.labelled`` makes such a batch from padded sequences and their lengths.

    Args:
        input_size: I.
        classes: C.
        each: one label for each "sequence", or for each "step" (tagging).
        bidirectional: read the sequence in both directions. Such a model reads whole sequences: ``FullBPTT()`` trains it, and
            ``TruncatedBPTT(k)`` with k at least as long as the sequences.
        cell: the recurrent cell.
        hidden_size: H, of each direction.
        num_layers: L.
        dropout: the probability of dropout, in training, on the input, between layers and before the head.
        input_dropout: the same of the input alone; None: ``dropout``.
        initial: the rule for the state before the first step.
        initialisers: the rules for the recurrent weights.
        reduction: the loss is the "mean" of the labels' losses, or their "sum".

    Raises:
        InputError: sizes below 1, fewer than two classes.

    >>> import torch
    >>> from throughtime import data, gradients
    >>> model = SequenceClassifier(3, classes=4, hidden_size=8)
    >>> xs, lengths = torch.randn(12, 5, 3), torch.tensor([12, 7, 1, 12, 3])
    >>> batch = data.labelled(xs, torch.tensor([0, 3, 2, 1, 0]), lengths)
    >>> loss, carry = gradients.FullBPTT().accumulate(model, batch)
    >>> model.probabilities(xs, lengths).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        input_size: int,
        classes: int,
        *,
        each: Each = "sequence",
        bidirectional: bool = False,
        cell: AbstractCell = GRU(),  # noqa: B008  a frozen dataclass
        hidden_size: int = 128,
        num_layers: int = 1,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        initial: AbstractInitial = Zeros(),  # noqa: B008  a frozen dataclass
        initialisers: Sequence[AbstractInitialiser] = (TorchUniform(),),
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        _check.one_of("each", each, get_args(Each))
        if _check.positive("classes", classes) < 2:
            raise _check.InputError(f"classes is {classes}; expected at least 2 to choose among. Give the number of classes.")
        self.each: Each = each
        layers = partial(Bidirectional, ends=each == "sequence") if bidirectional else Recurrence
        recurrence = layers(
            cell, input_size, hidden_size, num_layers=num_layers, dropout=dropout, initial=initial, initialisers=initialisers
        )
        head = Head(2 * hidden_size if bidirectional else hidden_size, classes)
        self._set_stations(Vectors(input_size), recurrence, head, dropout=dropout, input_dropout=input_dropout, reduction=reduction)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SequenceClassifier":
        """A model from plain values, such as those of a JSON file.

        Args:
            config: the arguments of the class, with a cell ("rnn" "gru" "lstm") by name.

        Raises:
            InputError: a name that is none, an argument that the class does not have.

        >>> SequenceClassifier.from_config({"input_size": 3, "classes": 2, "each": "step", "bidirectional": True}).head.weight.shape
        torch.Size([2, 256])
        """
        return from_plain(cls, config, {"cell": CELLS, "each": {each: each for each in get_args(Each)}})

    @property
    def classes(self) -> int:
        """C."""
        return self.head.weight.shape[0]

    @property
    def bidirectional(self) -> bool:
        """Whether the model reads in both directions."""
        return isinstance(self.recurrence, Bidirectional)

    def enter(self, batch: Batch) -> Float[Tensor, "T B I"] | Rows | Padded:
        """Station ②; for two directions with each sequence's length, since the second one begins at its end."""
        xs = super().enter(batch)
        return Padded.of(xs, batch.mask) if self.bidirectional and batch.mask is not None and isinstance(xs, Tensor) else xs

    @torch.no_grad()
    def probabilities(self, inputs: Float[Tensor, "T B I"], lengths: Int[Tensor, " B"] | None = None) -> Float[Tensor, "*T C"]:
        """p of each class, in evaluation mode.

        Args:
            inputs: sequences, time first, padded to the longest.
            lengths: steps of each, at least 1; None: all have T.

        Returns:
            (B, C), or (T, B, C) for a label a step, where padding has numbers without meaning.

        Raises:
            InputError: inputs of another width, lengths beyond T or below 1.
        """
        T, B = inputs.shape[:2]
        lengths = torch.full((B,), T) if lengths is None else lengths
        mask = mask_of_lengths(lengths, T).to(inputs.device)
        was_training = self.training
        self.eval()
        try:
            hs, _ = self.recurrence(self.enter(Batch(inputs, mask=mask)), self.initial_state(B))
        finally:
            self.train(was_training)
        if self.each == "sequence":
            hs = hs[lengths.to(hs.device) - 1, torch.arange(B, device=hs.device)]
        return self.head.predict(hs)
