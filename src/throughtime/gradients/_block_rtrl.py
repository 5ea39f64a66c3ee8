"""Backpropagation inside a block, the influence matrix from block to block (Schmidhuber 1992).

A block has the steps a+1 … b. Inside it, λ goes back as in BPTT. At its start, λ is multiplied by the influence of everything before it:

    dL/dθ += Σ_{t=a+1}^{b} λ_t I_t + (λ_{a+1} J_{a+1}) M_a                  (1)
    M_b = Φ(b, a) M_a + Σ_{u=a+1}^{b} Φ(b, u) I_u,    Φ(b, u) = J_b … J_{u+1}       (2)

(1) is the recursion of the fast kernels and one matrix-vector product. In (2) the rows of Φ(b, u) are adjoints, one for each of the n
states at b. They are taken back together through the block,

    Λ_b = 1,   Λ_{u−1} = Λ_u J_u        (3)

so that the sum of Λ_u I_u over the block is one matrix product. Φ(b, a) = Λ_a is multiplied by M_a once per block, while RTRL multiplies
J_t by M at every step.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from .. import _check
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome
from .forward._influence import Influence
from .forward._run import Entry, enter, run_forward


@final
@dataclass(frozen=True)
class BlockRTRL(AbstractGradient):
    """The same gradient as ``RTRL()``, exact over the whole past, in O(n³) time per step for blocks of about n = S·H steps.

    M takes as much memory as in ``RTRL()``. The adjoints (3) of a block take n·G·H numbers per step, layer and stream in addition.

    Args:
        block: steps in a block. If T is not a multiple of it, the batch ends in a shorter block.

    Raises:
        InputError: a block below 1; this machine cannot hold M.
        NotImplementedError: an input station other than an ``Embedding`` that has parameters.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> loss, carry = BlockRTRL(8).accumulate(model, batch)
    >>> loss, carry = BlockRTRL(8).accumulate(model, batch, carry)  # exact over both calls

    References: Schmidhuber, *A fixed size storage O(n³) time complexity learning algorithm for fully recurrent continually running
    networks*, 1992.
    """

    block: int
    agrees = "exactly"

    def __post_init__(self) -> None:
        _check.positive("block", self.block, remedy="As many steps as there are states is cheapest.")

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        entry = enter(model, batch, carry, repr(self))
        scale, losses = model.scale(batch), []
        for start in range(0, batch.T, self.block):
            block = batch.steps(start, min(start + self.block, batch.T))
            run = run_forward(model, block, entry, repr(self))
            influence = Influence(model, run, entry, repr(self))
            loss, c = model.loss_and_adjoint(run.trace.hs, block, scale=scale)
            losses.append(loss)
            with torch.no_grad():
                at_start = torch.stack(run.trace.backward(c, None))  # (S, L, B, H) λ_{a+1} J_{a+1}
                run.trace.finish()
                influence.columns.add(model, run, _times_influence(influence, at_start))  # (1)
                _advance(influence, block.T)  # (2)
            entry = Entry(run.trace.last, torch.zeros_like(entry.fresh), influence.kept())
        return Outcome(torch.stack(losses).sum(), Carry(entry.state, entry.kept, repr(self)))


def _times_influence(influence: Influence, adjoint: Tensor) -> Tensor:
    """The second half of (1), (columns,)."""
    g = adjoint.new_zeros(influence.columns.count)
    for l, M in enumerate(influence.M):
        g[: M.shape[2]] += _of_layer(adjoint[:, l].unsqueeze(1)).bmm(M).sum((0, 1))
    return g


def _advance(influence: Influence, T: int) -> None:
    """(2): from M_a to M_b, one layer's states after another's."""
    influence.M = [_advanced(influence, m, T) for m in range(len(influence.M))]


def _advanced(influence: Influence, m: int, T: int) -> Tensor:
    """M_b of layer m's states, (B, S·H, columns up to m): they are reached through that layer and those below."""
    layers, columns, table = influence.run.layers[: m + 1], influence.columns, influence.run.table
    back, K = _back(influence, m, T), influence.M[m].shape[1]
    M = influence.M[m].new_zeros(influence.M[m].shape)
    for l, layer in enumerate(layers):
        M[:, :, : columns.upto[l]].baddbmm_(_of_layer(back.at_entry[l]), influence.M[l])  # Φ(b, a) M_a
        M[:, :, columns.wx[l]] += _summed(back.wx[l], layer.W_inputs, K)
        M[:, :, columns.rh[l]] += _summed(back.rh[l], layer.R_inputs, K)
        M[:, :, columns.own[l]] += _summed(back.own[l], torch.ones_like(layer.W_inputs[:, :, :1]), K)
    if table is not None:
        of_table = _summed(back.x, table.share(slice(0, T)), K)
        M[:, :, columns.table] += of_table.unflatten(2, (-1, len(table.rows))).transpose(2, 3).flatten(2)
    return M


class _Adjoints(NamedTuple):
    """Λ (3) of the K = S·H states of one layer at the end of a block; steps last to first, each (B, K·…)."""

    at_entry: list[Tensor]  # (S, K, B, H) for each layer
    wx: list[list[Tensor]]  # G·H each
    rh: list[list[Tensor]]  # G·H each
    own: list[list[Tensor]]  # V·H each
    x: list[Tensor]  # I each, at what the input station gave


def _back(influence: Influence, m: int, T: int) -> _Adjoints:
    """(3), from layer m's states down to the input and back to the block's entry."""
    S, _, B, H = influence.run.sizes
    layers, like = influence.run.layers[: m + 1], influence.M[m]
    one = torch.eye(S * H, dtype=like.dtype, device=like.device).view(S * H, S, 1, H).transpose(0, 1)
    wx, rh, own = ([[] for _ in layers] for _ in range(3))
    back = _Adjoints([one.new_zeros(S, S * H, B, H) for _ in layers], wx, rh, own, [])
    back.at_entry[m] = one.expand(S, S * H, B, H)
    for t in reversed(range(T)):
        below = torch.zeros(())
        for l in reversed(range(m + 1)):
            adjoint = back.at_entry[l]
            if l < m:
                adjoint[0] += below
            pulled = layers[l].at(t).pull(adjoint)  # (3)
            back.at_entry[l], below = pulled.before, pulled.below
            back.wx[l].append(pulled.wx.permute(2, 1, 0, 3).flatten(1))
            back.rh[l].append(pulled.rh.permute(2, 1, 0, 3).flatten(1))
            back.own[l].append(pulled.own.permute(2, 1, 0, 3).flatten(1))
        back.x.append(below.transpose(0, 1).flatten(1))
    return back


def _of_layer(adjoint: Tensor) -> Tensor:
    """(S, K, B, H) as (B, K, S·H)."""
    return adjoint.permute(2, 1, 0, 3).flatten(2)


def _summed(steps: list[Tensor], xs: Tensor, K: int) -> Tensor:
    """Σ_t λ_t ⊗ x_t for each stream and state, (B, K, …·X): ``steps`` last to first, each (B, K·…); xs (T, B, X)."""
    rows = torch.stack(steps[::-1], 2)  # (B, K·…, T)
    return torch.bmm(rows, xs.transpose(0, 1)).unflatten(1, (K, -1)).flatten(2)
