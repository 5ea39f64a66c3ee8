"""The influence matrix M_t = ∂s_t/∂θ, layer by layer, one step after another.

B batch · I input · H hidden · G gates · S states · L layers · P columns (``_columns``) · r rows of an embedding that have occurred.

For the joint state of all layers, separately for every stream:

    M_t = J_t M_{t−1} + I_t,    M_0 = 0, except for 1 in the columns of the initial state           (1)

J_t is block lower triangular within the step, so that the layers follow one another, with M^l (B, S·H, columns up to layer l):

    M_t^l = (∂s_t^l/∂s_{t−1}^l) M_{t−1}^l + (∂s_t^l/∂h_t^{l−1}) M_t^{l−1}[h rows] + own I_t^l       (2)

    I_t^l: ∂s_p/∂W_gji = (∂f_p/∂wx_g) x̂_i in row j alone where the cell works unit by unit          (3)     R, ĥ likewise
           ∂s/∂E_vi = (∂s/∂x_i) p_v, in the first layer                                             (4)

The first product of (2) is one batched matrix product over all columns. It is nearly all of the cost.
"""

from typing import final

import torch
from torch import Tensor

from ... import _check
from ...models import AbstractModel
from ...nn import LinearisedStep
from ._columns import Columns
from ._run import Entry, ForwardRun, restart

CHEAPER = (
    "SnAp(1), UORO(seed), EProp() and TruncatedBPTT(k1, k2) need no such matrix and are not exact; a smaller batch or hidden size needs a "
    "smaller one."
)


@final
class Influence:
    """M of every layer and stream. The carry's tensors are not changed."""

    def __init__(self, model: AbstractModel, run: ForwardRun, entry: Entry, method: str) -> None:
        """M before the first step: that of the carry, and M_0 of (1) for streams that start anew.

        Raises:
            InputError: M does not fit into this machine's memory.
        """
        self.run, self.columns = run, Columns(model, run)
        S, L, B, H = run.sizes
        dtype = run.trace.hs.dtype
        needed = 2 * B * S * H * sum(self.columns.upto) * dtype.itemsize  # the one before a step and the one after
        _check.memory(
            needed, f"the influence matrix of {method} ({B} streams, {S * L * H} states, {self.columns.count:,} columns)", CHEAPER
        )
        self.M = [self._kept(entry, l) if entry.kept else run.trace.hs.new_zeros(B, S * H, n) for l, n in enumerate(self.columns.upto)]
        learnable = model.recurrence.initial_rule.learnable
        self.M = [restart(M, entry.fresh, self._begin(l) if learnable else 0.0) for l, M in enumerate(self.M)]

    def step(self, t: int) -> None:
        """(2) for every layer."""
        after = []
        for l, layer in enumerate(self.run.layers):
            step = layer.at(t)
            M = torch.bmm(step.jacobian(), self.M[l])
            if l > 0:
                H = step.R.shape[1]
                M[:, :, : self.columns.upto[l - 1]].baddbmm_(step.input_jacobian(), after[-1][:, :H])
            self._add_own(M, l, step, t)
            after.append(M)
        self.M = after

    def keep_only(self, patterns: list[Tensor]) -> None:
        """Set everything outside of ``patterns``, (S·H, columns up to the layer) each, to zero."""
        for M, pattern in zip(self.M, patterns, strict=True):
            M *= pattern

    def times(self, c: Tensor) -> Tensor:
        """Σ_b c_b M_b (columns,), for ``c`` (B, H) at the last layer's h."""
        H = c.shape[1]
        return torch.bmm(c.unsqueeze(1), self.M[-1][:, :H]).sum((0, 1))

    def kept(self) -> dict[str, Tensor]:
        """The tensors for the carry."""
        rows = {} if self.run.table is None else {"rows": self.run.table.rows}
        return rows | {f"influence.{l}": M for l, M in enumerate(self.M)}

    def _add_own(self, M: Tensor, l: int, step: LinearisedStep, t: int) -> None:
        """(3), (4)."""
        layer, d, table, columns = self.run.layers[l], step.derivative, self.run.table, self.columns
        add_outer(M[:, :, columns.wx[l]], d.by_wx, layer.W_inputs[t], elementwise=d.elementwise)
        add_outer(M[:, :, columns.rh[l]], d.by_rh, layer.R_inputs[t], elementwise=d.elementwise)
        if step.by_own is not None:
            add_outer(M[:, :, columns.own[l]], step.by_own, torch.ones_like(layer.W_inputs[t, :, :1]), elementwise=True)
        if l == 0 and table is not None:
            share = table.share(slice(t, t + 1))[0]  # (B, r)
            M[:, :, columns.table].unflatten(2, (len(table.rows), -1)).add_(step.input_jacobian().unsqueeze(2) * share[:, None, :, None])

    def _begin(self, l: int) -> Tensor:
        """M_0^l (S·H, columns): 1 where a state is its own parameter."""
        SH = self.M[l].shape[1]
        begin = self.M[l].new_zeros(self.M[l].shape[1:])
        begin[:, self.columns.initial[l]] = torch.eye(SH, dtype=begin.dtype, device=begin.device)
        return begin

    def _kept(self, entry: Entry, l: int) -> Tensor:
        """M^l of the last call, with zeros for rows of the embedding that are new in this call."""
        M, table = entry.kept[f"influence.{l}"], self.run.table
        return M if table is None else table.grown_columns(M, entry.kept["rows"])


def add_outer(M: Tensor, by: Tensor, x: Tensor, *, elementwise: bool) -> None:
    """(3): M (B, S·H, G·H·K) += ∂s/∂a ⊗ x, for ∂s/∂a ``by`` (S, G, B, H) or (S, G, B, H, H) and x (B, K)."""
    S, G, _, H = by.shape[:4]
    blocks = M.unflatten(2, (G, H, x.shape[1])).unflatten(1, (S, H))  # (B, S, H, G, H, K)
    if elementwise:
        blocks.diagonal(dim1=2, dim2=4).add_(torch.einsum("pgbj,bk->bpgkj", by, x))
    else:
        blocks.add_(torch.einsum("pgbij,bk->bpigjk", by, x))
