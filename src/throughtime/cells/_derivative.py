"""The derivative of one step at a point. Forward-mode gradient methods and ``gradient_flow`` multiply by it.

N points (any steps of any streams) · G gates · H hidden · S states.

A cell's step s' = f(wx, rh, s) has three derivatives. They are diagonal in H if the cell is elementwise:

    push:   ds'_p = Σ_g A_pg ⊙ dwx_g + Σ_g E_pg ⊙ drh_g + Σ_q D_pq ⊙ ds_q       (1)     with fixed coefficients A, E, D
    pull:   λwx_g = Σ_p A_pg ⊙ λ_p,   λrh_g = Σ_p E_pg ⊙ λ_p,   λ_q = Σ_p D_pq ⊙ λ_p    (2)     its transpose

A cell that mixes units has full (H, H) blocks instead. The layer adds the paths through ``R`` (rh = R h) and ``W``.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class StepDerivative:
    """∂s'/∂(wx, rh, s) at N points.

    Attributes:
        by_wx: (S, G, N, H), entry [p, g] = ∂s'_p/∂wx_g; or (S, G, N, H, H), entry [p, g, n, i, j] = ∂(unit i of s'_p)/∂(unit j of wx_g).
        by_rh: as ``by_wx``; the same tensor if the cell adds the two halves.
        by_state: (S, S, N, H) or (S, S, N, H, H), entry [p, q] = ∂s'_p/∂s_q at fixed rh.
        elementwise: True if the blocks are diagonal and stored as (H,).

    >>> from throughtime.cells import LSTM
    >>> wx, rh, state = torch.zeros(6, 4, 3), torch.zeros(6, 4, 3), (torch.zeros(6, 3), torch.ones(6, 3))
    >>> d = LSTM().derivative(wx, rh, state)
    >>> d.by_state[1, 1].mean().item()  # ∂c'/∂c = f = σ(0)
    0.5
    >>> dwx, drh, dstate = d.pull(torch.ones(2, 6, 3))
    >>> dwx.shape
    torch.Size([4, 6, 3])
    """

    by_wx: Tensor
    by_rh: Tensor
    by_state: Tensor
    elementwise: bool

    def push(self, dwx: Tensor, drh: Tensor, dstate: Tensor) -> Tensor:
        """(1): tangents of s', (S, *K, N, H), from those of wx and rh, (G, *K, N, H), and of s, (S, *K, N, H); any axes K."""
        parts = [(self.by_wx, dwx), (self.by_rh, drh), (self.by_state, dstate)]
        parts = [(block, d) for block, d in parts if block.shape[1] > 0]  # a cell may have no gate with a half rh
        return torch.stack([_sum(self._times(block[p], d, transposed=False) for block, d in parts) for p in range(len(self.by_state))])

    def pull(self, adjoint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(2): adjoints of wx, rh (G, *K, N, H) and s (S, *K, N, H), from those of s', (S, *K, N, H); any axes K."""
        blocks = (self.by_wx, self.by_rh, self.by_state)
        wx, rh, state = (
            torch.stack([self._times(block[:, g], adjoint, transposed=True) for g in range(block.shape[1])])
            if block.shape[1] > 0
            else adjoint.new_zeros(0, *adjoint.shape[1:])
            for block in blocks
        )
        return wx, rh, state

    def _times(self, blocks: Tensor, d: Tensor, *, transposed: bool) -> Tensor:
        """Σ over the leading axis of block times vector, elementwise or as matrices."""
        if self.elementwise:
            return _sum(block * one for block, one in zip(blocks, d, strict=True))
        equation = "nij,...ni->...nj" if transposed else "nij,...nj->...ni"
        return _sum(torch.einsum(equation, block, one) for block, one in zip(blocks, d, strict=True))


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)
