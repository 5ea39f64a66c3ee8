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
from typing import NamedTuple, final

import torch
from torch import Tensor

from .._shapes import State
from ._activations import Sigmoid, Tanh
from ._base import AbstractCell, Gate
from ._derivative import StepDerivative
from ._pullback import AbstractPullback


class Coefficients(NamedTuple):
    """What (7)–(13) multiply an adjoint by: dc' = δc + m δh, da_k = d_k dc' for k = i, f, g, da_o = d_o δh, dc = f dc'. All (N, H)."""

    m: Tensor  # o ⊙ (1 − tanh² c'): how h' follows c'
    d_i: Tensor  # how c' follows a_i
    d_f: Tensor
    d_g: Tensor
    d_o: Tensor  # how h' follows a_o at fixed c'
    f: Tensor  # how c' follows c


@final
@dataclass(frozen=True)
class LSTM(AbstractCell):
    """Long short-term memory; gates in torch's order i, f, g, o; states h, c.

    References:
        Hochreiter & Schmidhuber, *Long short-term memory*, 1997. Gers, Schmidhuber & Cummins, *Learning to forget*, 2000.

    >>> h_next, c_next = LSTM().step(torch.zeros(2, 4, 3), torch.zeros(2, 4, 3), (torch.zeros(2, 3), torch.ones(2, 3)))
    >>> c_next[0].tolist()  # f = σ(0)
    [0.5, 0.5, 0.5]
    """

    gates = 4
    states = 2
    elementwise = True
    memory_gate = 1  # f
    input_gate = 0  # i
    adds_halves = True

    @property
    def named_gates(self) -> tuple[Gate, ...]:
        i, f, o = (Gate(name, Sigmoid(), opens=True) for name in "ifo")
        return i, f, Gate("g", Tanh()), o

    def gate_values(self, wx: Tensor, rh: Tensor) -> tuple[Tensor, ...]:
        a = wx + rh
        i = torch.sigmoid(a[:, 0])  # (1)
        f = torch.sigmoid(a[:, 1])  # (2)
        g = torch.tanh(a[:, 2])  # (3)
        o = torch.sigmoid(a[:, 3])  # (4)
        return i, f, g, o

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        _, c = state
        i, f, g, o = self.gate_values(wx, rh)
        c_next = f * c + i * g  # (5)
        return o * torch.tanh(c_next), c_next  # (6)

    def step_vjp(self, wx: Tensor, rh: Tensor, state: State, state_next: State, dstate: State) -> tuple[Tensor, Tensor, State]:
        (_, c), (_, c_next), (dh, dc_next) = state, state_next, dstate
        m, d_i, d_f, d_g, d_o, f = self._coefficients(self.gate_values(wx, rh), c, c_next)
        dc = dc_next + dh * m  # (7)
        da = torch.stack((dc * d_i, dc * d_f, dc * d_g, dh * d_o), 1)  # (8)–(12)
        return da, da, (torch.zeros_like(dh), dc * f)  # (13)

    def derivative(self, wx: Tensor, rh: Tensor, state: State) -> StepDerivative:
        m, d_i, d_f, d_g, d_o, f = self.coefficients(wx, rh, state)
        zero = torch.zeros_like(f)
        by_c = torch.stack((d_i, d_f, d_g, zero))  # (8)–(10)
        by_h = torch.stack((m * d_i, m * d_f, m * d_g, d_o))  # (7)–(11)
        by_halves = torch.stack((by_h, by_c))  # (12)
        by_state = torch.stack((torch.stack((zero, m * f)), torch.stack((zero, f))))  # (7), (13)
        return StepDerivative(by_halves, by_halves, by_state, elementwise=True)

    def coefficients(self, wx: Tensor, rh: Tensor, state: State) -> Coefficients:
        """The same derivative with c' left in the middle, which takes half of the multiplications."""
        _, c = state
        gates = i, f, g, _ = self.gate_values(wx, rh)
        return self._coefficients(gates, c, f * c + i * g)

    @staticmethod
    def _coefficients(gates: tuple[Tensor, ...], c: Tensor, c_next: Tensor) -> Coefficients:
        i, f, g, o = gates
        tanh_c = torch.tanh(c_next)
        return Coefficients(
            m=o * (1 - tanh_c * tanh_c),  # (7)
            d_i=g * (i * (1 - i)),  # (8)
            d_f=c * (f * (1 - f)),  # (9)
            d_g=i * (1 - g * g),  # (10)
            d_o=tanh_c * (o * (1 - o)),  # (11)
            f=f,
        )

    def pullback(self, wx: Tensor, rh: Tensor, state: State) -> AbstractPullback:
        return LSTMPullback(self.coefficients(wx, rh, state))


@final
class LSTMPullback(AbstractPullback):
    """(7)–(13) with c' left in the middle: da_{i,f,g} = dc' ⊙ (d_i, d_f, d_g)."""

    def __init__(self, coefficients: Coefficients) -> None:
        self.m, d_i, d_f, d_g, self.d_o, self.f = coefficients
        self.d_ifg = torch.stack((d_i, d_f, d_g), 1)  # (N, 3, H)
        self.drh = self.dwx = d_i.new_empty(len(d_i), LSTM.gates, d_i.shape[1])  # (12)

    def apply(self, rows: slice, adjoint: State, into: State, *, wants_dwx: bool) -> bool:
        dh, dc = adjoint
        dc = torch.addcmul(dc, dh, self.m[rows], out=into[0])  # (7); into[0] is free until the path through R is added
        torch.mul(self.d_ifg[rows], dc.unsqueeze(1), out=self.drh[rows, :3])  # (8)–(10)
        torch.mul(self.d_o[rows], dh, out=self.drh[rows, 3])  # (11)
        torch.mul(self.f[rows], dc, out=into[1])  # (13)
        return False
