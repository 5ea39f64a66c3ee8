"""Input vectors as a small table and indices into it.

The input half of a layer is then W x_t + b = (W table + b)[index_t]. The product runs over V rows instead of T·B, once in forward and
twice in backward. For a text of few symbols this saves half of all the arithmetic.

T time · B batch · I input · V rows of the table · G gates · H hidden.
"""

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from ..kernels import Parameters


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """Input vectors xs_t = table[index_t], as ``Recurrence`` accepts them in place of ``xs``.

    Attributes:
        table: (V, I).
        index: (T, B) integers in [0, V).
        product: the first layer's product with the table, if it is shared between several calls.

    >>> from throughtime import cells, nn
    >>> stack, table, index = nn.Recurrence(cells.GRU(), 3, 5), torch.randn(9, 3), torch.randint(9, (7, 4))
    >>> rows = nn.Rows(table, index)
    >>> torch.allclose(stack(rows)[0], stack(table[index])[0], atol=1e-5)
    True
    """

    table: Tensor
    index: Tensor
    product: "TableProduct | None" = None

    @property
    def shape(self) -> torch.Size:
        """(T, B, I), the shape of the vectors."""
        return torch.Size((*self.index.shape, self.table.shape[1]))

    def steps(self, start: int, stop: int) -> "Rows":
        """Steps start … stop − 1."""
        return replace(self, index=self.index[start:stop])

    def with_product(self, product: "TableProduct") -> "Rows":
        """The same rows with the table's product."""
        return replace(self, product=product)

    def vectors(self) -> Tensor:
        """xs (T, B, I)."""
        return functional.embedding(self.index, self.table)

    def through(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The affine map of every vector, (T, B, rows of ``weight``), with autograd's graph."""
        return functional.embedding(self.index, functional.linear(self.table, weight, bias))

    def input_half(self, gates: int) -> Tensor:
        """wx (T, B, G, H) from the table's product, without a graph."""
        assert self.product is not None, "the caller has set the product"
        return functional.embedding(self.index, self.product.value).unflatten(2, (gates, -1))

    def add_to_table(self, dxs: Tensor) -> None:
        """Backpropagate the gradient of the vectors, (T, B, I), to the table and through its graph."""
        if self.table.requires_grad:
            dtable = torch.zeros_like(self.table).index_add_(0, self.index.flatten().long(), dxs.flatten(0, 1))
            torch.autograd.backward(self.table, dtable)


@final
class TableProduct:
    """W table + b of a stack's first layer, with a buffer for its gradient. Several calls share it through ``Rows.with_product``.

    Args:
        weights: the first layer's, as they are stored, (G·H, ·).
        table: (V, I).

    Attributes:
        value: (V, G·H), without a graph.

    >>> from throughtime import cells, nn
    >>> stack, table, index = nn.Recurrence(cells.GRU(), 3, 5), torch.randn(9, 3), torch.randint(9, (7, 4))
    >>> product = nn.TableProduct(stack.stored_parameters_of(0), table)
    >>> trace = stack.trace(nn.Rows(table, index).with_product(product))
    >>> adjoint = trace.backward(torch.ones(7, 4, 5), None)
    >>> product.finish()
    >>> stack.weight_ih_l0.grad.shape
    torch.Size([15, 3])
    """

    def __init__(self, weights: Parameters, table: Tensor) -> None:
        self.table, self._W, self._b = table, weights.W, weights.b_ih
        with torch.no_grad():
            self.value = functional.linear(table, self._W, self._b)
        self._gradient: Tensor | None = None

    def add(self, index: Tensor, dwx: Tensor) -> None:
        """Add the adjoints (T, B, G, H) of the rows at ``index`` to the buffer."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.value)
        self._gradient.index_add_(0, index.flatten().long(), dwx.flatten(2).flatten(0, 1))

    @torch.no_grad()
    def finish(self) -> None:
        """Backpropagate the buffer to W, b and the table."""
        if self._gradient is None:
            return
        d, self._gradient = self._gradient, None
        found = [(self._W, lambda: d.T @ self.table), (self._b, lambda: d.sum(0)), (self.table, lambda: d @ self._W)]
        wanted = [(p, gradient()) for p, gradient in found if p is not None and p.requires_grad]
        if wanted:
            torch.autograd.backward([p for p, _ in wanted], [g for _, g in wanted])
