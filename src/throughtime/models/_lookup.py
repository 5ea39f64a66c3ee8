"""Rows of a table, with a gradient that works on no more of the table than it must.

T time · B batch · V rows of the table · E its columns.
"""

from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

_SMALL = 1 << 16  # numbers: a table of fewer is cleared as fast as it is skipped


def lookup(table: Float[Tensor, "V E"], index: Int[Tensor, "T B"]) -> Float[Tensor, "T B E"]:
    """x_tb = table[index_tb]; backward, dtable[v] = Σ_{tb: index_tb = v} dx_tb  (1).

    What torch forces is one dense (V, E) gradient a step: its optimisers, norms and clips are defined on it. That array is made once, as
    the table's ``grad``, and only the rows that were looked up are added to. Where the table has a ``grad`` already (a second window, a
    second batch, a head that shares the table), the sum (1) goes into those rows of it and nothing else of size V is made or read: it is
    then handed over as a sparse tensor, which is what ``torch.autograd.grad`` would return in that case too.

    Args:
        table: (V, E).
        index: (T, B) in [0, V).
    """
    return _Lookup.apply(table, index)  # type: ignore[return-value]


@final
class _Lookup(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(table: Tensor, index: Tensor) -> Tensor:
        return functional.embedding(index, table)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (dxs,), (table, index) = gradients, ctx.saved_tensors
        rows, where = dxs.reshape(-1, table.shape[1]), index.reshape(-1).long()
        if _is_added_to(table) and not torch.is_grad_enabled():
            return torch.sparse_coo_tensor(where.unsqueeze(0), rows, table.shape, check_invariants=False), None  # (1)
        return rows.new_zeros(table.shape).index_add_(0, where, rows), None  # (1)

    @staticmethod
    def jvp(ctx: Any, dtable: Tensor, _: None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return functional.embedding(ctx.saved_tensors[1], dtable)


def _is_added_to(table: Tensor) -> bool:
    return table.is_leaf and table.grad is not None and not table.grad.is_sparse and table.numel() >= _SMALL
