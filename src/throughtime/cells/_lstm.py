"""Long short-term memory with a forget gate, no peepholes (Gers et al. 2000; as ``torch.nn.LSTM``).

    i = σ(wx_i + rh_i)      (1)     c' = f ⊙ c + i ⊙ g      (5)
    f = σ(wx_f + rh_f)      (2)     h' = o ⊙ tanh c'        (6)
    g = tanh(wx_g + rh_g)   (3)
    o = σ(wx_o + rh_o)      (4)

Differentiated by hand, with δh = ∂L/∂h' and δc = ∂L/∂c' as they arrive from above and from later:

    dc'  = δc + δh ⊙ o ⊙ (1 − tanh² c')     (7)     from (6)
    da_i = dc' ⊙ g ⊙ i ⊙ (1 − i)            (8)     from (5), (1)
    da_f = dc' ⊙ c ⊙ f ⊙ (1 − f)            (9)     from (5), (2)
    da_g = dc' ⊙ i ⊙ (1 − g²)               (10)    from (5), (3)
    da_o = δh ⊙ tanh c' ⊙ o ⊙ (1 − o)       (11)    from (6), (4)
    dwx  = drh = (da_i, da_f, da_g, da_o)   (12)
    dc   = dc' ⊙ f                          (13)    ∂L/∂h = Rᵀ drh is the time loop's

The two states meet in c', so that with all that is not δ multiplied out beforehand (7)–(13) are five products in place of nine:

    dc' = δc + δh ⊙ a,   da_{i,f,g} = dc' ⊙ P,   da_o = δh ⊙ Q,   dc = dc' ⊙ f      (14)
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .._shapes import State
from ._base import AbstractCell
from ._pullback import AbstractPullback


@final
@dataclass(frozen=True)
class LSTM(AbstractCell):
    """Long short-term memory; gates in torch's order i, f, g, o; states h, c.

    References:
        Hochreiter & Schmidhuber, *Long short-term memory*, 1997. Gers, Schmidhuber & Cummins, *Learning to forget*, 2000.
    """

    gates = 4
    states = 2
    elementwise = True
    memory_gate = 1  # f
    input_gate = 0  # i

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        _, c = state
        a = wx + rh
        i = torch.sigmoid(a[:, 0])  # (1)
        f = torch.sigmoid(a[:, 1])  # (2)
        g = torch.tanh(a[:, 2])  # (3)
        o = torch.sigmoid(a[:, 3])  # (4)
        c_next = f * c + i * g  # (5)
        return o * torch.tanh(c_next), c_next  # (6)

    def step_vjp(self, wx: Tensor, rh: Tensor, state: State, state_next: State, dstate: State) -> tuple[Tensor, Tensor, State]:
        (_, c), (_, c_next), (dh, dc_next) = state, state_next, dstate
        a = wx + rh
        i = torch.sigmoid(a[:, 0])  # (1)
        f = torch.sigmoid(a[:, 1])  # (2)
        g = torch.tanh(a[:, 2])  # (3)
        o = torch.sigmoid(a[:, 3])  # (4)
        tanh_c = torch.tanh(c_next)
        dc = dc_next + dh * o * (1 - tanh_c * tanh_c)  # (7)
        da_i = dc * g * (i * (1 - i))  # (8)
        da_f = dc * c * (f * (1 - f))  # (9)
        da_g = dc * i * (1 - g * g)  # (10)
        da_o = dh * tanh_c * (o * (1 - o))  # (11)
        da = torch.stack((da_i, da_f, da_g, da_o), 1)  # (12)
        return da, da, (torch.zeros_like(dh), dc * f)  # (13)

    def pullback(self, wx: Tensor, rh: Tensor, before: State) -> AbstractPullback:
        return LSTMPullback(wx, rh, before)


@final
class LSTMPullback(AbstractPullback):
    """(14)."""

    def __init__(self, wx: Tensor, rh: Tensor, before: State) -> None:
        gates, c = wx + rh, before[1]  # (N, 4, H), (N, H)
        i, self.f, o = (gates[:, k].sigmoid() for k in (0, 1, 3))
        g = gates[:, 2].tanh()
        tanh_c = (self.f * c + i * g).tanh()  # (5)
        self.a = o * (1 - tanh_c * tanh_c)
        self.P = torch.stack((g * i * (1 - i), c * self.f * (1 - self.f), i * (1 - g * g)), 1)  # (N, 3, H)
        self.Q = tanh_c * o * (1 - o)
        self.drh = self.dwx = gates  # which have served

    def apply(self, rows: slice, adjoint: State, into: State, *, wants_dwx: bool) -> bool:
        dh, dc = adjoint
        dc = torch.addcmul(dc, dh, self.a[rows], out=into[0])  # (14); into[0] is free until the path through R is added
        torch.mul(self.P[rows], dc.unsqueeze(1), out=self.drh[rows, :3])  # (14)
        torch.mul(self.Q[rows], dh, out=self.drh[rows, 3])  # (14)
        torch.mul(self.f[rows], dc, out=into[1])  # (14)
        return False
