"""An embedding's rows in the methods that run forward in time. Only rows that have occurred are stored.

T time · B batch · I input · r rows that have occurred.

x_t = Σ_v p_tv e_v, with p_t one-hot if inputs are indices. A row that has not occurred in any stream has no influence on any state and
takes no memory. If inputs are distributions, all rows are stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ...data import Batch


@final
@dataclass(frozen=True, eq=False)
class Table:
    """The rows that have occurred, and the coefficients of each step's vector."""

    weight: nn.Parameter  # (V, I)
    rows: Tensor  # (r,) sorted
    inputs: Tensor  # (T, B) places among ``rows``, or (T, B, V) distributions

    @staticmethod
    def of(weight: nn.Parameter, batch: Batch, kept: Mapping[str, Tensor]) -> "Table":
        """The rows in the carry and in the batch."""
        if batch.inputs.is_floating_point():
            every = torch.arange(len(weight), device=batch.inputs.device)
            return Table(weight, every, batch.inputs.to(weight.dtype))
        present = batch.inputs.long().flatten()
        rows = torch.cat((kept["rows"], present)).unique() if "rows" in kept else present.unique()
        return Table(weight, rows, torch.searchsorted(rows, batch.inputs.long().contiguous()))

    def share(self, steps: slice) -> Tensor:
        """p (t, B, r) of some steps."""
        inputs = self.inputs[steps]
        return inputs if inputs.is_floating_point() else nn.functional.one_hot(inputs, len(self.rows)).to(self.weight.dtype)

    def grown(self, kept: Tensor, rows: Tensor, dim: int) -> Tensor:
        """The tensor kept for ``rows`` along ``dim``, with zeros for rows that are new."""
        if len(rows) == len(self.rows):
            return kept
        shape = list(kept.shape)
        shape[dim] = len(self.rows)
        return kept.new_zeros(shape).index_copy(dim, torch.searchsorted(self.rows, rows), kept)

    def grown_columns(self, kept: Tensor, rows: Tensor) -> Tensor:
        """The same for ``kept`` (…, columns) laid out as ``_columns`` says, the table's r·I first."""
        if len(rows) == len(self.rows):
            return kept
        I = self.weight.shape[1]
        first = kept[..., : len(rows) * I].unflatten(-1, (len(rows), I))
        return torch.cat((self.grown(first, rows, first.ndim - 2).flatten(-2), kept[..., len(rows) * I :]), -1)
