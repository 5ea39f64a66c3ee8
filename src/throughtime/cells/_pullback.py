"""The transposed derivative of one layer's step at many points. Its coefficients are computed once and applied to many adjoints.

For rows n = (t, b), with δ the adjoint of the state after the step and A, E, D the coefficients of ``StepDerivative``:

    dwx_g = Σ_p A_pg ⊙ δ_p      (1)
    drh_g = Σ_p E_pg ⊙ δ_p      (2)
    ds_q  = Σ_p D_pq ⊙ δ_p      (3)     at fixed rh; the layer adds the path through R

Results are written to buffers allocated once: at these sizes allocating a tensor costs more than the multiplication that fills it.

N = T·B rows · G gates · H hidden · S states.
"""

import abc
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from .._shapes import State
from ._derivative import StepDerivative


class AbstractPullback(abc.ABC):
    """(1)–(3) for the N rows of one layer. ``cell.pullback(wx, rh, state)`` makes it.

    Attributes:
        dwx, drh: (N, G, H), valid in the rows of the last call; one tensor if the two are equal.

    >>> from throughtime.cells import GRU
    >>> pullback = GRU().pullback(torch.zeros(6, 3, 5), torch.zeros(6, 3, 5), (torch.ones(6, 5),))
    >>> dstate = (torch.empty(6, 5),)
    >>> pullback.apply(slice(0, 6), (torch.ones(6, 5),), dstate, wants_dwx=True)
    True
    >>> dstate[0][0].tolist(), pullback.drh.shape  # ∂h'/∂h at fixed rh = z = σ(0)
    ([0.5, 0.5, 0.5, 0.5, 0.5], torch.Size([6, 3, 5]))
    """

    dwx: Tensor
    drh: Tensor

    @abc.abstractmethod
    def apply(self, rows: slice, adjoint: State, into: State, *, wants_dwx: bool) -> bool:
        """Compute (1)–(3) for some rows.

        Args:
            rows: which of the N rows; n of them.
            adjoint: δ, S tensors (n, H); not changed.
            into: receives ds, S tensors (n, H).
            wants_dwx: False skips (1).

        Returns:
            False if ds_0 is zero; the content of ``into[0]`` is then undefined.
        """


@final
class DiagonalPullback(AbstractPullback):
    """For an elementwise cell. The coefficients are stored in the order in which the matrix products read them."""

    def __init__(self, linear: StepDerivative) -> None:
        self.E = [block.transpose(0, 1).contiguous() for block in linear.by_rh]  # S × (N, G, H)
        self.A = (
            None
            if linear.by_wx is linear.by_rh or linear.by_wx.equal(linear.by_rh)
            else [block.transpose(0, 1).contiguous() for block in linear.by_wx]
        )
        S = len(self.E)
        self.D = [[(p, linear.by_state[p, q]) for p in range(S) if linear.by_state[p, q].any()] for q in range(S)]
        self.drh = torch.empty_like(self.E[0])
        self.dwx = self.drh if self.A is None else torch.empty_like(self.A[0])

    def apply(self, rows: slice, adjoint: State, into: State, *, wants_dwx: bool) -> bool:
        by_gate = [d.unsqueeze(1) for d in adjoint]  # (n, 1, H)
        if self.A is not None and wants_dwx:
            _combine([a[rows] for a in self.A], by_gate, self.dwx[rows])  # (1)
        _combine([e[rows] for e in self.E], by_gate, self.drh[rows])  # (2)
        for q, terms in enumerate(self.D):  # (3)
            if terms:
                _combine([d[rows] for _, d in terms], [adjoint[p] for p, _ in terms], into[q])
            elif q > 0:
                into[q].zero_()
        return bool(self.D[0])


@final
class WholePullback(AbstractPullback):
    """For a cell that mixes its units. It calls the cell's ``step_vjp`` on all rows, which never forms a Jacobian."""

    def __init__(self, step_vjp: Callable[..., tuple[Tensor, Tensor, State]], wx: Tensor, rh: Tensor, before: State, after: State) -> None:
        self.step_vjp, self.wx, self.rh, self.before, self.after = step_vjp, wx, rh, before, after
        self.dwx, self.drh = torch.empty_like(wx), torch.empty_like(rh)

    def apply(self, rows: slice, adjoint: State, into: State, *, wants_dwx: bool) -> bool:
        before, after = (tuple(s[rows] for s in states) for states in (self.before, self.after))
        dwx, drh, dstate = self.step_vjp(self.wx[rows], self.rh[rows], before, after, adjoint)
        for place, found in zip((self.dwx[rows], self.drh[rows], *into), (dwx, drh, *dstate), strict=True):
            place.copy_(found)
        return True


def _combine(coefficients: Sequence[Tensor], adjoint: Sequence[Tensor], into: Tensor) -> None:
    """into = Σ_p coefficient_p ⊙ δ_p."""
    torch.mul(coefficients[0], adjoint[0], out=into)
    for c, d in zip(coefficients[1:], adjoint[1:], strict=True):
        into.addcmul_(c, d)
