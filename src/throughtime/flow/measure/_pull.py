"""One step back for many (t, b) at once: the transposed Jacobian of a layer's step, its matrix products included.

For rows n = (t, b), with δ the adjoint of the state after the step, in the letters of ``cells.StepDerivative``:

    dwx_g = Σ_p A_pg ⊙ δ_p              (1)
    drh_g = Σ_p E_pg ⊙ δ_p              (2)
    ds_q  = Σ_p D_pq ⊙ δ_p              (3)
    dh    = ds_0 + Σ_g R_gᵀ drh_g       (4)     the adjoint of the h before the step
    dx    = Σ_g W_gᵀ dwx_g              (5)

A, E, D do not depend on the loss, so they are found once and serve every lag: (1)–(3) are multiplications, (4) one product of all rows.
The LSTM's two states meet in c', so that its (1)–(3) need half of the multiplications:

    dc = δ_c + δ_h ⊙ a,   da_{i,f,g} = dc ⊙ P,   da_o = δ_h ⊙ Q,   dc_before = dc ⊙ f      (6)

Results go to buffers made once: at these sizes a fresh tensor costs more than the multiplication that fills it.

T time · B batch · N = T·B rows · G gates · H hidden · S states.
"""

import abc
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from ..._shapes import State
from ...cells import LSTM, derivative
from ._trajectory import Layer


class AbstractPull(abc.ABC):
    """(1)–(5) of one layer. ``dwx``, ``drh`` (N, G, H) hold the rows of the last call; one tensor where they are equal.

    Without ``wants_dwx`` nobody will ask for (5) or for the gradients of W and b_ih, and (1) is left out.
    """

    dwx: Tensor
    drh: Tensor

    def __init__(self, layer: Layer, *, wants_dwx: bool) -> None:
        self.wants_dwx = wants_dwx
        self.R = layer.weights.R.flatten(0, 1)  # (G·H, H)
        assert layer.weights.W is not None, "a stack has all its weights"
        self.W = layer.weights.W.flatten(0, 1)  # (G·H, I)

    @abc.abstractmethod
    def halves(self, rows: slice, adjoint: State, into: State) -> bool:
        """(1)–(3) of the rows; ``adjoint`` and ``into`` (n, H) each. False: ds_0 is zero, and into[0] was left as it was."""

    def back(self, rows: slice, adjoint: State, into: State) -> None:
        """(1)–(4): from the adjoint of the state after the step, that of the state before it."""
        beta = int(self.halves(rows, adjoint, into))
        torch.addmm(into[0], self.drh[rows].flatten(1), self.R, beta=beta, out=into[0])  # (4)

    def below(self, rows: slice, into: Tensor, *, add: bool) -> None:
        """(5) of the last call's rows, written or added to ``into`` (n, I)."""
        torch.addmm(into, self.dwx[rows].flatten(1), self.W, beta=int(add), out=into)  # (5)


@final
class DiagonalPull(AbstractPull):
    """For a cell that works unit by unit: coefficients, kept in the order in which the products read them."""

    def __init__(self, layer: Layer, *, wants_dwx: bool) -> None:
        super().__init__(layer, wants_dwx=wants_dwx)
        linear = derivative(layer.cell, layer.wx.flatten(0, 1), layer.rh.flatten(0, 1), tuple(s[:-1].flatten(0, 1) for s in layer.states))
        self.E = [block.transpose(0, 1).contiguous() for block in linear.by_rh]  # S × (N, G, H)
        self.A = (
            None if not wants_dwx or linear.by_wx.equal(linear.by_rh) else [block.transpose(0, 1).contiguous() for block in linear.by_wx]
        )
        S = len(layer.states)
        self.D = [[(p, linear.by_state[p, q]) for p in range(S) if linear.by_state[p, q].any()] for q in range(S)]
        self.drh = torch.empty_like(self.E[0])
        self.dwx = self.drh if self.A is None else torch.empty_like(self.drh)

    def halves(self, rows: slice, adjoint: State, into: State) -> bool:
        wide = [d.unsqueeze(1) for d in adjoint]  # (n, 1, H)
        if self.A is not None:
            _weigh([a[rows] for a in self.A], wide, self.dwx[rows])  # (1)
        _weigh([e[rows] for e in self.E], wide, self.drh[rows])  # (2)
        for q, terms in enumerate(self.D):  # (3)
            if terms:
                _weigh([d[rows] for _, d in terms], [adjoint[p] for p, _ in terms], into[q])
            elif q > 0:
                into[q].zero_()
        return bool(self.D[0])


@final
class LSTMPull(AbstractPull):
    """(6), the cell's own equations (7)–(13) with all that is not δ multiplied out beforehand."""

    def __init__(self, layer: Layer, *, wants_dwx: bool) -> None:
        super().__init__(layer, wants_dwx=wants_dwx)
        gates = (layer.wx + layer.rh).flatten(0, 1)  # (N, 4, H)
        i, self.f, o = (gates[:, g].sigmoid() for g in (0, 1, 3))
        g = gates[:, 2].tanh()
        c, tanh_c = layer.states[1][:-1].flatten(0, 1), layer.states[1][1:].flatten(0, 1).tanh()
        self.a = o * (1 - tanh_c * tanh_c)
        self.P = torch.stack((g * i * (1 - i), c * self.f * (1 - self.f), i * (1 - g * g)), 1)  # (N, 3, H)
        self.Q = tanh_c * o * (1 - o)
        self.drh = self.dwx = gates  # which have served

    def halves(self, rows: slice, adjoint: State, into: State) -> bool:
        dh, dc = adjoint
        dc = torch.addcmul(dc, dh, self.a[rows], out=into[0])  # (6); into[0] is free until (4) writes it
        torch.mul(self.P[rows], dc.unsqueeze(1), out=self.drh[rows, :3])  # (6)
        torch.mul(self.Q[rows], dh, out=self.drh[rows, 3])  # (6)
        torch.mul(self.f[rows], dc, out=into[1])  # (6)
        return False


@final
class WholePull(AbstractPull):
    """For a cell that mixes its units: its own ``step_vjp`` over all rows, which never forms a Jacobian."""

    def __init__(self, layer: Layer, *, wants_dwx: bool) -> None:
        super().__init__(layer, wants_dwx=wants_dwx)
        self.cell = layer.cell
        self.wx, self.rh = layer.wx.flatten(0, 1), layer.rh.flatten(0, 1)
        self.before = tuple(s[:-1].flatten(0, 1) for s in layer.states)
        self.after = tuple(s[1:].flatten(0, 1) for s in layer.states)
        self.dwx, self.drh = torch.empty_like(self.wx), torch.empty_like(self.rh)

    def halves(self, rows: slice, adjoint: State, into: State) -> bool:
        before, after = (tuple(s[rows] for s in states) for states in (self.before, self.after))
        dwx, drh, dstate = self.cell.step_vjp(self.wx[rows], self.rh[rows], before, after, adjoint)
        for place, found in zip((self.dwx[rows], self.drh[rows], *into), (dwx, drh, *dstate), strict=True):
            place.copy_(found)
        return True


def pull_of(layer: Layer, *, wants_dwx: bool) -> AbstractPull:
    """The cheapest that the cell allows."""
    kind = LSTMPull if isinstance(layer.cell, LSTM) else DiagonalPull if layer.cell.elementwise else WholePull
    return kind(layer, wants_dwx=wants_dwx)


def _weigh(coefficients: Sequence[Tensor], adjoint: Sequence[Tensor], into: Tensor) -> None:
    """into = Σ_p coefficient_p ⊙ δ_p."""
    torch.mul(coefficients[0], adjoint[0], out=into)
    for c, d in zip(coefficients[1:], adjoint[1:], strict=True):
        into.addcmul_(c, d)
