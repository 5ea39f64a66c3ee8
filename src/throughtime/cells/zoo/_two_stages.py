"""Cells whose last blocks of R multiply not h but what the cell makes of it first (``AbstractCell.between``).

B batch · G gates · H hidden.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ... import _check
from ..._shapes import State
from .._base import AbstractCell


@final
@dataclass(frozen=True)
class ResetBeforeGRU(AbstractCell):
    """The GRU with its reset gate before the product, as in the published paper and in Keras with ``reset_after=False``.

        r  = σ(wx_r + rh_r)                 (1)
        z  = σ(wx_z + rh_z)                 (2)
        q  = r ⊙ h                          (3)     what R_n multiplies
        n  = tanh(wx_n + R_n q + b_n)       (4)
        h' = (1 − z) ⊙ n + z ⊙ h            (5)

    References:
        Cho et al., *Learning phrase representations using RNN encoder–decoder for statistical machine translation*, 2014, eq. 5–8
        (arXiv:1406.1078v3), here with biases. Version 1 has the gate after the product, as ``GRU``.

    >>> wx, h = torch.zeros(4, 3, 5), (torch.ones(4, 5),)
    >>> ResetBeforeGRU().between(wx, torch.zeros(4, 2, 5), h)[0].tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5]
    """

    gates = 3
    late_gates = 1
    states = 1
    elementwise = True
    memory_gate = 1

    def between(self, wx: Tensor, rh: Tensor, state: State) -> Tensor:
        return torch.sigmoid(wx[:, 0] + rh[:, 0]) * state[0]  # (1), (3)

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        z = torch.sigmoid(wx[:, 1] + rh[:, 1])  # (2)
        n = torch.tanh(wx[:, 2] + rh[:, 2])  # (4)
        return ((1 - z) * n + z * state[0],)  # (5)


@final
@dataclass(frozen=True)
class LEM(AbstractCell):
    """Long expressive memory: two states with learned steps of time, the second driven by the first as it has just become.

        τ₁ = Δt σ(wx_1 + rh_1)                              (1)     τ₂ = Δt σ(wx_2 + rh_2)      (2)
        z' = (1 − τ₁) ⊙ z + τ₁ ⊙ tanh(wx_z + rh_z)          (3)     what R_y multiplies
        y' = (1 − τ₂) ⊙ y + τ₂ ⊙ tanh(wx_y + R_y z' + b_y)  (4)     y is the output

    Args:
        dt: Δt, above 0 and at most 1.

    References:
        Rusch, Mishra, Erichson & Mahoney, *Long expressive memory for sequence modeling*, 2022, eq. 3.

    >>> state = torch.zeros(4, 5), torch.ones(4, 5)
    >>> LEM().between(torch.zeros(4, 4, 5), torch.zeros(4, 3, 5), state)[0].tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5]
    """

    dt: float = 1.0

    gates = 4
    late_gates = 1
    states = 2
    elementwise = True

    def __post_init__(self) -> None:
        if not 0 < self.dt <= 1:
            raise _check.InputError(f"dt is {self.dt!r}; expected a step of time above 0 and at most 1.")

    def between(self, wx: Tensor, rh: Tensor, state: State) -> Tensor:
        tau = self.dt * torch.sigmoid(wx[:, 0] + rh[:, 0])  # (1)
        return (1 - tau) * state[1] + tau * torch.tanh(wx[:, 2] + rh[:, 2])  # (3)

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        tau = self.dt * torch.sigmoid(wx[:, 1] + rh[:, 1])  # (2)
        y_next = (1 - tau) * state[0] + tau * torch.tanh(wx[:, 3] + rh[:, 3])  # (4)
        return y_next, self.between(wx, rh, state)


@final
@dataclass(frozen=True)
class CoRNN(AbstractCell):
    """Coupled oscillators: R has one block for the positions y and one for the velocities z.

        z' = z + Δt (tanh(wx + R_y y + R_z z + b) − γ y − ε z)      (1)
        y' = y + Δt z'                                              (2)     y is the output

    Args:
        dt: Δt, above 0.
        gamma: γ, the frequency of a free oscillator, squared.
        epsilon: ε, its damping.

    References:
        Rusch & Mishra, *Coupled oscillatory recurrent neural network (coRNN)*, 2021, eq. 3, with the damping of the step before.

    >>> state = torch.zeros(4, 5), torch.ones(4, 5)
    >>> CoRNN(dt=0.5, epsilon=1.0).step(torch.zeros(4, 1, 5), torch.zeros(4, 2, 5), state)[0][0].tolist()
    [0.25, 0.25, 0.25, 0.25, 0.25]
    """

    dt: float = 0.042
    gamma: float = 2.7
    epsilon: float = 4.7

    gates = 1
    recurrent_gates = 2
    late_gates = 1
    states = 2
    elementwise = True

    def __post_init__(self) -> None:
        _check.above_zero("dt", self.dt)

    def between(self, wx: Tensor, rh: Tensor, state: State) -> Tensor:
        return state[1]

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        y, z = state
        z_next = z + self.dt * (torch.tanh(wx[:, 0] + rh[:, 0] + rh[:, 1]) - self.gamma * y - self.epsilon * z)  # (1)
        return y + self.dt * z_next, z_next  # (2)
