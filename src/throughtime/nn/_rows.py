"""Vectors that are rows of a small table, not looked up yet.

T time · B batch · I input · V rows of the table · G gates · H hidden.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """xs_t = table[index_t].

    The input half of a layer is then W x_t + b = (W table + b)[index_t]: one product over V rows in place of T·B, forward and twice
    backward. For a text of few symbols that is half of all the arithmetic.

    Attributes:
        table: (V, I).
        index: (T, B) integers in [0, V).
        product: (V, G·H) W table + b of the layer that takes them, where it has been made already for several calls.
    """

    table: Tensor
    index: Tensor
    product: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """(T, B, I), of the vectors."""
        return torch.Size((*self.index.shape, self.table.shape[1]))

    def vectors(self) -> Tensor:
        """xs (T, B, I)."""
        return functional.embedding(self.index, self.table)

    def through(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The affine map of every vector, (T, B, rows of ``weight``)."""
        product = functional.linear(self.table, weight, bias) if self.product is None else self.product
        return functional.embedding(self.index, product)
