"""One step's derivative at a point: what forward-mode gradients and the diagnosis of gradient flow multiply by.

N steps side by side (any of time, streams) · G gates · H hidden · S states.

A cell's step s' = f(wx, rh, s) has three derivatives. Where it works unit by unit they are diagonal in H:

    push:   ds'_p = Σ_g A_pg ⊙ dwx_g + Σ_g E_pg ⊙ drh_g + Σ_q D_pq ⊙ ds_q       (1)     with fixed coefficients A, E, D
    pull:   λwx_g = Σ_p A_pg ⊙ λ_p,   λrh_g = Σ_p E_pg ⊙ λ_p,   λ_q = Σ_p D_pq ⊙ λ_p    (2)     its transpose

A cell that mixes units has full (H, H) blocks in their place. The paths through ``R`` (rh = R h) and ``W`` are their owner's to add.
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
        by_wx: (S, G, N, H), entry [p, g] = ∂s'_p/∂wx_g; or (S, G, N, H, H), where unit [..., i, j] of s' depends on unit j.
        by_rh: as ``by_wx``; the same tensor where a cell adds the two halves.
        by_state: (S, S, N, H) or (S, S, N, H, H), entry [p, q] = ∂s'_p/∂s_q at fixed rh.
        elementwise: whether the blocks are diagonal and kept as (H,).
    """

    by_wx: Tensor
    by_rh: Tensor
    by_state: Tensor
    elementwise: bool

    def push(self, dwx: Tensor, drh: Tensor, dstate: Tensor) -> Tensor:
        """(1): tangents of s', (S, *K, N, H), from those of wx and rh, (G, *K, N, H), and of s, (S, *K, N, H); any axes K."""
        parts = [(self.by_wx, dwx), (self.by_rh, drh), (self.by_state, dstate)]
        return torch.stack([_sum(self._times(block[p], d, transposed=False) for block, d in parts) for p in range(len(self.by_state))])

    def pull(self, adjoint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(2): adjoints of wx, rh (G, *K, N, H) and s (S, *K, N, H), from those of s', (S, *K, N, H); any axes K."""
        blocks = (self.by_wx, self.by_rh, self.by_state)
        wx, rh, state = (
            torch.stack([self._times(block[:, g], adjoint, transposed=True) for g in range(block.shape[1])]) for block in blocks
        )
        return wx, rh, state

    def _times(self, blocks: Tensor, d: Tensor, *, transposed: bool) -> Tensor:
        """Σ over the leading axis of block times vector, unit by unit or as matrices."""
        if self.elementwise:
            return _sum(block * one for block, one in zip(blocks, d, strict=True))
        equation = "nij,...ni->...nj" if transposed else "nij,...nj->...ni"
        return _sum(torch.einsum(equation, block, one) for block, one in zip(blocks, d, strict=True))


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)
