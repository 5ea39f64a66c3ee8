"""Station ②: the inputs of a batch as vectors for the recurrence.

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
    """A map from inputs, (T, B) or (T, B, ·), to vectors xs (T, B, size).

    >>> class Digits(AbstractInput):  # a number in 0..255 as its eight bits
    ...     size = 8
    ...     def forward(self, inputs):
    ...         return ((inputs.unsqueeze(2) >> torch.arange(8)) & 1).float()
    >>> Digits()(torch.tensor([[5]])).tolist()
    [[[1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]]
    """

    size: int

    @abc.abstractmethod
    def forward(self, inputs: Shaped[Tensor, "T B *I"]) -> Float[Tensor, "T B E"]:
        """The vectors that the first recurrent layer sees."""


@final
class Embedding(AbstractInput):
    """x_t = Eᵀ w_t: the row of the table for an index, or for a distribution over the vocabulary, the mean row under it.

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
        return nn.functional.embedding(inputs.long(), self.weight)

    def is_small_for(self, inputs: Shaped[Tensor, "T B *I"]) -> bool:
        """Whether the inputs are indices, at least twice as many as the table has rows."""
        return not inputs.is_floating_point() and 2 * self.weight.shape[0] <= inputs.numel()

    def rows(self, inputs: Shaped[Tensor, "T B"]) -> Rows:
        """The table and the indices into it, without the lookup."""
        _check.indices("inputs", inputs, self.weight.shape[0])
        return Rows(self.weight, inputs.long())


@final
class OneHot(AbstractInput):
    """x_t = the one-hot vector of an index. A distribution over the vocabulary is not changed.

    Args:
        vocabulary_size: V.

    >>> OneHot(4)(torch.tensor([[2, 0]])).tolist()
    [[[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]]
    """

    like: Tensor

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.size = _check.positive("vocabulary_size", vocabulary_size)
        self.register_buffer("like", torch.empty(0), persistent=False)  # has the model's dtype, for the one-hot vectors

    def forward(self, inputs: Shaped[Tensor, "T B *I"]) -> Float[Tensor, "T B E"]:
        if inputs.is_floating_point():
            _distribution(inputs, self.size)
            return inputs
        _check.indices("inputs", inputs, self.size)
        return nn.functional.one_hot(inputs.long(), self.size).to(self.like)


@final
class Vectors(AbstractInput):
    """x_t = the input itself, a real vector.

    Args:
        size: I.

    Raises:
        InputError: inputs of another shape than (T, B, I), or that are not real numbers, when it is called.

    >>> Vectors(2)(torch.zeros(7, 4, 2)).shape
    torch.Size([7, 4, 2])
    """

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
