"""The gradients of a layer's weights from the adjoints of wx and rh, in buffers allocated once.

    dW = Σ_n dwx_n ⊗ x_n,   dR = Σ_n drh_n ⊗ h_n,   db_ih = Σ_n dwx_n,   db_hh = Σ_n drh_n      (1)     one product if dwx = drh

N = T·B rows · I input · G gates · H hidden.
"""

from typing import final

import torch
from torch import Tensor

from ..cells import AbstractPullback
from ..kernels import Parameters


@final
class WeightGradients:
    """(1) for one layer.

    Args:
        weights: the layer's weights.
        xs: (T, B, I) the layer's input.
        h_before: (T, B, H) the h that R multiplied.
        pullback: holds ``dwx`` and ``drh``.
    """

    def __init__(self, weights: Parameters, xs: Tensor, h_before: Tensor, pullback: AbstractPullback) -> None:
        self.weights, self.pullback = weights, pullback
        x, h = xs.flatten(0, 1), h_before.flatten(0, 1)  # (N, I), (N, H)
        rows, I = [weights.W[..., 0].numel(), weights.R[..., 0].numel()], x.shape[1]
        self._shared = pullback.dwx is pullback.drh
        self._sources = [torch.cat((x, h), 1)] if self._shared else [x, h]
        self._into = [x.new_empty(n, source.shape[1]) for n, source in zip(rows, self._sources, strict=False)]
        self._dW, self._dR = (self._into[0][:, :I], self._into[0][:, I:]) if self._shared else self._into
        self._db = [x.new_empty(len(into)) for into in self._into]
        self._late: tuple[int, Tensor] | None = None

    def with_late(self, first: int, q: Tensor) -> "WeightGradients":
        """The same, for a cell whose R multiplies q (T, B, H) and not h from row ``first`` (of G·H) on."""
        self._late = first, q.flatten(0, 1)
        return self

    def of(self, rows: slice) -> Parameters:
        """(1) over some of the N rows: dW (G·H, I), dR (G·H, H), db (G·H) or None. The next call overwrites them."""
        adjoints = [self.pullback.drh] if self._shared else [self.pullback.dwx, self.pullback.drh]
        for d, source, into, db in zip(adjoints, self._sources, self._into, self._db, strict=True):
            d = d[rows].flatten(1)
            torch.mm(d.T, source[rows], out=into)
            torch.sum(d, 0, out=db)
        if self._late is not None:
            first, q = self._late
            torch.mm(self.pullback.drh[rows].flatten(1)[:, first:].T, q[rows], out=self._dR[first:])
        _, _, b_ih, b_hh = self.weights
        return Parameters(self._dW, self._dR, None if b_ih is None else self._db[0], None if b_hh is None else self._db[-1])
