"""Station ②: what a batch's inputs become before the recurrence.

T time · B batch · I input · V vocabulary · E embedding.
"""

import abc
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .. import _check
from .._check import InputError
from ..nn import Rows


class AbstractInput(nn.Module, abc.ABC):
    """From inputs (T, B) or (T, B, ·) to vectors xs (T, B, size)."""

    size: int

    @abc.abstractmethod
    def forward(self, inputs: Shaped[Tensor, "T B *I"]) -> Float[Tensor, "T B E"]:
        """The vectors that the first recurrent layer sees."""


@final
class Embedding(AbstractInput):
    """x_t = Eᵀ w_t: a row of the table for an index; for a distribution over the vocabulary, the mean of the rows under it.

    Args:
        vocabulary_size: V.
        size: E.

    >>> Embedding(65, 16)(torch.zeros(7, 4, dtype=torch.long)).shape
    torch.Size([7, 4, 16])
    """

    def __init__(self, vocabulary_size: int, size: int) -> None:
        super().__init__()
        self.size = _check.positive("embedding_size", size)
        self.weight = nn.Parameter(torch.empty(_check.positive("vocabulary_size", vocabulary_size), size).normal_())

    def forward(self, inputs: Shaped[Tensor, "T B *I"]) -> Float[Tensor, "T B E"]:
        if inputs.is_floating_point():
            _distribution(inputs, self.weight.shape[0])
            return inputs.to(self.weight.dtype) @ self.weight
        _check.indices("inputs", inputs, self.weight.shape[0])
        return nn.functional.embedding(inputs, self.weight)

    def is_small_for(self, inputs: Shaped[Tensor, "T B *I"]) -> bool:
        """Whether the inputs are indices, twice as many of them as there are rows in the table, or more."""
        return not inputs.is_floating_point() and 2 * self.weight.shape[0] <= inputs.numel()

    def rows(self, inputs: Shaped[Tensor, "T B"]) -> Rows:
        """The table and where to look, not looked up yet."""
        _check.indices("inputs", inputs, self.weight.shape[0])
        return Rows(self.weight, inputs)


@final
class OneHot(AbstractInput):
    """x_t = the one-hot vector of an index; a distribution over the vocabulary passes as it is."""

    like: Tensor

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.size = _check.positive("vocabulary_size", vocabulary_size)
        self.register_buffer("like", torch.empty(0), persistent=False)  # follows the model's type, which a one-hot vector must have

    def forward(self, inputs: Shaped[Tensor, "T B *I"]) -> Float[Tensor, "T B E"]:
        if inputs.is_floating_point():
            _distribution(inputs, self.size)
            return inputs
        _check.indices("inputs", inputs, self.size)
        return nn.functional.one_hot(inputs.long(), self.size).to(self.like)


@final
class Vectors(AbstractInput):
    """x_t as it comes: any real vector of the given size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = _check.positive("input_size", size)

    def forward(self, inputs: Shaped[Tensor, "T B *I"]) -> Float[Tensor, "T B E"]:
        if inputs.ndim != 3 or inputs.shape[2] != self.size or not inputs.is_floating_point():
            raise InputError(f"inputs are {inputs.dtype} {tuple(inputs.shape)}; expected real vectors (T, B, {self.size}).")
        return inputs


def _distribution(inputs: Tensor, vocabulary_size: int) -> None:
    if inputs.ndim != 3 or inputs.shape[2] != vocabulary_size:
        raise InputError(
            f"inputs have shape {tuple(inputs.shape)}; expected indices (T, B), or distributions (T, B, V) with V = {vocabulary_size}."
        )
