"""Vectors that are rows of a small table, not looked up yet.

The input half of a layer is then W x_t + b = (W table + b)[index_t]: one product over V rows in place of T·B, forward and twice backward.
For a text of few symbols that is half of all the arithmetic.

T time · B batch · I input · V rows of the table · G gates · H hidden.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from ._stack import Recurrence


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """xs_t = table[index_t].

    Attributes:
        table: (V, I).
        index: (T, B) integers in [0, V).
        product: what the first layer makes of the table, where that has been done already for several calls.
    """

    table: Tensor
    index: Tensor
    product: "TableProduct | None" = None

    @property
    def shape(self) -> torch.Size:
        """(T, B, I), of the vectors."""
        return torch.Size((*self.index.shape, self.table.shape[1]))

    def steps(self, start: int, stop: int) -> "Rows":
        """Steps start … stop − 1."""
        return replace(self, index=self.index[start:stop])

    def with_product(self, product: "TableProduct") -> "Rows":
        """The same rows with the table's product at hand."""
        return replace(self, product=product)

    def vectors(self) -> Tensor:
        """xs (T, B, I)."""
        return functional.embedding(self.index, self.table)

    def through(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The affine map of every vector, (T, B, rows of ``weight``), with a graph."""
        return functional.embedding(self.index, functional.linear(self.table, weight, bias))

    def input_half(self, gates: int) -> Tensor:
        """wx (T, B, G, H) from the table's product, without a graph."""
        assert self.product is not None, "the caller has made it"
        return functional.embedding(self.index, self.product.value).unflatten(2, (gates, -1))

    def add_to_table(self, dxs: Tensor) -> None:
        """Hand the gradient of the vectors, (T, B, I), on to what made the table."""
        if self.table.requires_grad:
            dtable = torch.zeros_like(self.table).index_add_(0, self.index.flatten().long(), dxs.flatten(0, 1))
            torch.autograd.backward(self.table, dtable)


@final
class TableProduct:
    """W table + b of a stack's first layer, and the gradient that gathers on it.

    Args:
        stack: whose first layer it is.
        table: (V, I).

    Attributes:
        value: (V, G·H), without a graph.
    """

    def __init__(self, stack: "Recurrence", table: Tensor) -> None:
        self.table = table
        self._W, _, self._b, _ = stack.stored_parameters_of(0)
        with torch.no_grad():
            self.value = functional.linear(table, self._W, self._b)
        self._gradient: Tensor | None = None

    def add(self, index: Tensor, dwx: Tensor) -> None:
        """Gather the adjoints (T, B, G, H) of what was looked up."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.value)
        self._gradient.index_add_(0, index.flatten().long(), dwx.flatten(2).flatten(0, 1))

    @torch.no_grad()
    def finish(self) -> None:
        """Hand what has gathered on to W, b and what made the table."""
        if self._gradient is None:
            return
        d, self._gradient = self._gradient, None
        found = [(self._W, lambda: d.T @ self.table), (self._b, lambda: d.sum(0)), (self.table, lambda: d @ self._W)]
        wanted = [(p, gradient()) for p, gradient in found if p is not None and p.requires_grad]
        if wanted:
            torch.autograd.backward([p for p, _ in wanted], [g for _, g in wanted])
