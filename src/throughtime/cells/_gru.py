"""The gated recurrent unit, reset after the product (Cho et al. 2014, v1; as cuDNN and ``torch.nn.GRU``).

    r = σ(wx_r + rh_r)              (1)     n  = tanh(wx_n + r ⊙ rh_n)      (3)
    z = σ(wx_z + rh_z)              (2)     h' = (1 − z) ⊙ n + z ⊙ h        (4)

Differentiated by hand, with δ = ∂L/∂h':

    da_n = δ ⊙ (1 − z) ⊙ (1 − n²)       (5)     from (4), (3)
    da_z = δ ⊙ (h − n) ⊙ z ⊙ (1 − z)    (6)     from (4), (2)
    da_r = da_n ⊙ rh_n ⊙ r ⊙ (1 − r)    (7)     from (3), (1)
    dwx  = (da_r, da_z, da_n)           (8)
    drh  = (da_r, da_z, da_n ⊙ r)       (9)     the reset gate stands between R h and n
    dh   = δ ⊙ z, and Rᵀ drh            (10)    the second is the time loop's
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .._shapes import State
from ._activations import Sigmoid, Tanh
from ._base import AbstractCell, Gate
from ._derivative import StepDerivative


@final
@dataclass(frozen=True)
class GRU(AbstractCell):
    """Gated recurrent unit; gates in torch's order r, z, n.

    References:
        Cho et al., *Learning phrase representations using RNN encoder-decoder*, 2014 (arXiv:1406.1078v1).

    >>> wx, h = torch.zeros(4, 3, 5), torch.ones(4, 5)
    >>> wx[:, 1] = 50.0  # z = 1: the state stays
    >>> torch.equal(GRU().step(wx, torch.zeros(4, 3, 5), (h,))[0], h)
    True
    """

    gates = 3
    states = 1
    elementwise = True
    memory_gate = 1  # z: h' = h where it is 1

    @property
    def named_gates(self) -> tuple[Gate, ...]:
        return Gate("r", Sigmoid(), opens=True), Gate("z", Sigmoid(), opens=True), Gate("n", Tanh())

    def gate_values(self, wx: Tensor, rh: Tensor) -> tuple[Tensor, ...]:
        r = torch.sigmoid(wx[:, 0] + rh[:, 0])  # (1)
        z = torch.sigmoid(wx[:, 1] + rh[:, 1])  # (2)
        n = torch.tanh(wx[:, 2] + r * rh[:, 2])  # (3)
        return r, z, n

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        (h,) = state
        _, z, n = self.gate_values(wx, rh)
        return ((1 - z) * n + z * h,)  # (4)

    def step_vjp(self, wx: Tensor, rh: Tensor, state: State, state_next: State, dstate: State) -> tuple[Tensor, Tensor, State]:
        (dh,) = dstate
        gates = r, z, _ = self.gate_values(wx, rh)
        da_r, da_z, da_n = (slope * dh for slope in self._slopes(gates, rh, state))
        dwx = torch.stack((da_r, da_z, da_n), 1)  # (8)
        drh = torch.stack((da_r, da_z, da_n * r), 1)  # (9)
        return dwx, drh, (dh * z,)  # (10)

    def derivative(self, wx: Tensor, rh: Tensor, state: State) -> StepDerivative:
        gates = r, z, _ = self.gate_values(wx, rh)
        d_r, d_z, d_n = self._slopes(gates, rh, state)
        by_wx, by_rh = torch.stack((d_r, d_z, d_n)), torch.stack((d_r, d_z, d_n * r))  # (8), (9)
        return StepDerivative(by_wx[None], by_rh[None], z[None, None], elementwise=True)  # (10)

    def _slopes(self, gates: tuple[Tensor, ...], rh: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """(5)–(7) with δ = 1: how h' follows a_r, a_z and a_n, (N, H) each."""
        (h,), (r, z, n) = state, gates
        d_n = (1 - z) * (1 - n * n)  # (5)
        d_z = (h - n) * (z * (1 - z))  # (6)
        d_r = d_n * rh[:, 2] * (r * (1 - r))  # (7)
        return d_r, d_z, d_n
