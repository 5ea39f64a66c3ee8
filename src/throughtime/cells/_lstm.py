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
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .._shapes import State
from ._base import AbstractCell


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
