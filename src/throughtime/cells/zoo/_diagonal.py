"""Cells without R: every unit goes its own way through time, and layers meet in W alone.

Their rh is (B, 0, H). A kernel of theirs has no product in its loop, and ``gradients.RTRL()`` of one layer is as cheap as backpropagation.

B batch · G gates · H hidden.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ... import _check
from ..._shapes import State
from .._base import AbstractCell
from ._vectors import zeros


@final
class IndRNN(AbstractCell, nn.Module):
    """The independently recurrent network: a simple network whose units see their own past alone.

        h' = max(0, wx + u ⊙ h)             (1)     u (H,) learned, in [0, 1] at the start

    Args:
        hidden_size: H.

    References:
        Li, Li, Cook, Zhu & Gao, *Independently recurrent neural network (IndRNN)*, 2018, eq. 2.

    >>> IndRNN(3).step(torch.ones(2, 1, 3), torch.zeros(2, 0, 3), (torch.zeros(2, 3),))[0][0].tolist()
    [1.0, 1.0, 1.0]
    """

    gates = 1
    recurrent_gates = 0
    states = 1
    elementwise = True

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.rand(_check.positive("hidden_size", hidden_size)))

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        return (torch.relu(wx[:, 0] + self.u * state[0]),)  # (1)


@final
@dataclass(frozen=True)
class MinGRU(AbstractCell):
    """The GRU without all that its gates know of the past.

        z  = σ(wx_z)                        (1)
        n  = wx_n                           (2)
        h' = (1 − z) ⊙ h + z ⊙ n            (3)

    References:
        Feng, Tung, Ahmed, Bengio & Hajimirsadeghi, *Were RNNs all we needed?*, 2024, §3.1. Its appendix makes the candidate positive, for a
        scan in logarithms; here it is linear, as in the section.

    >>> MinGRU().step(torch.zeros(4, 2, 3), torch.zeros(4, 0, 3), (torch.ones(4, 3),))[0][0].tolist()
    [0.5, 0.5, 0.5]
    """

    gates = 2
    recurrent_gates = 0
    states = 1
    elementwise = True

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        z = torch.sigmoid(wx[:, 0])  # (1)
        return ((1 - z) * state[0] + z * wx[:, 1],)  # (2), (3)


@final
@dataclass(frozen=True)
class MinLSTM(AbstractCell):
    """The LSTM without all that its gates know of the past, and with gates that share what there is.

        f  = σ(wx_f)                        (1)     i  = σ(wx_i)            (2)
        h' = (f ⊙ h + i ⊙ wx_n) / (f + i)   (3)

    References:
        Feng, Tung, Ahmed, Bengio & Hajimirsadeghi, *Were RNNs all we needed?*, 2024 (arXiv:2410.01201v1), §3.2: f′ = f / (f + i) and
        i′ = i / (f + i) keep the scale of h the same at every time.

    >>> MinLSTM().step(torch.zeros(4, 3, 3), torch.zeros(4, 0, 3), (torch.ones(4, 3),))[0][0].tolist()
    [0.5, 0.5, 0.5]
    """

    gates = 3
    recurrent_gates = 0
    states = 1
    elementwise = True
    memory_gate = 0
    input_gate = 1

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        f, i = torch.sigmoid(wx[:, 0]), torch.sigmoid(wx[:, 1])  # (1), (2)
        return ((f * state[0] + i * wx[:, 2]) / (f + i),)  # (3)


@final
class SRU(AbstractCell, nn.Module):
    """The simple recurrent unit: gates that see a unit's own memory, and a way past it.

        f  = σ(wx_f + v_f ⊙ c)              (1)
        c' = f ⊙ c + (1 − f) ⊙ wx_c         (2)
        r  = σ(wx_r + v_r ⊙ c)              (3)
        h' = r ⊙ c' + (1 − r) ⊙ wx_x        (4)     wx_x the input itself, through weights of its own

    Args:
        hidden_size: H.

    References:
        Lei, Zhang, Wang, Dai & Artzi, *Simple recurrent units for highly parallelizable recurrence*, 2018, eq. 1–4. The paper's (4) has x
        itself, and the authors' code the product of x with weights where H is not I, as here. Biases are those of f and r there.

    >>> state = torch.zeros(4, 3), torch.ones(4, 3)
    >>> SRU(3).step(torch.zeros(4, 4, 3), torch.zeros(4, 0, 3), state)[1][0].tolist()
    [0.5, 0.5, 0.5]
    """

    gates = 4
    recurrent_gates = 0
    states = 2
    elementwise = True
    memory_gate = 0

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.v_f, self.v_r = zeros(hidden_size, 2)

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        _, c = state
        f = torch.sigmoid(wx[:, 0] + self.v_f * c)  # (1)
        c_next = f * c + (1 - f) * wx[:, 1]  # (2)
        r = torch.sigmoid(wx[:, 2] + self.v_r * c)  # (3)
        return r * c_next + (1 - r) * wx[:, 3], c_next  # (4)


@final
class ELSTM(AbstractCell, nn.Module):
    """The element-wise LSTM, made for ``RTRL``: no unit's past reaches another unit.

        f  = σ(wx_f + w_f ⊙ c)              (1)
        z  = tanh(wx_z + w_z ⊙ c)           (2)
        c' = f ⊙ c + (1 − f) ⊙ z            (3)
        h' = σ(wx_o + w_o ⊙ c') ⊙ c'        (4)

    The paper's output gate has a full matrix in the place of w_o. No state depends on that gate, so that the authors' code computes it
    behind the recurrence. Here it belongs to the cell and sees its own unit alone, as f and z do.

    Args:
        hidden_size: H.

    References:
        Irie, Gopalakrishnan & Schmidhuber, *Exploring the promise and limits of real-time recurrent learning*, 2024, §3.1.

    >>> state = torch.zeros(4, 3), torch.ones(4, 3)
    >>> ELSTM(3).step(torch.zeros(4, 3, 3), torch.zeros(4, 0, 3), state)[1][0].tolist()
    [0.5, 0.5, 0.5]
    """

    gates = 3
    recurrent_gates = 0
    states = 2
    elementwise = True
    memory_gate = 0

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.w_f, self.w_z, self.w_o = zeros(hidden_size, 3)

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        _, c = state
        f = torch.sigmoid(wx[:, 0] + self.w_f * c)  # (1)
        c_next = f * c + (1 - f) * torch.tanh(wx[:, 1] + self.w_z * c)  # (2), (3)
        return torch.sigmoid(wx[:, 2] + self.w_o * c_next) * c_next, c_next  # (4)


@final
class UnICORNN(AbstractCell, nn.Module):
    """Independent oscillators, each with a time scale of its own that is learned.

        τ  = Δt σ(c)                                        (1)     c (H,) learned
        z' = z − τ ⊙ (tanh(w ⊙ y + wx) + α y)               (2)     w (H,) learned
        y' = y + τ ⊙ z'                                     (3)     y is the output, z its velocity

    Args:
        hidden_size: H.
        dt: Δt, above 0.
        alpha: the frequency of a free oscillator, squared; at least 0.

    References:
        Rusch & Mishra, *UnICORNN: a recurrent model for learning very long time dependencies*, 2021, eq. 5.

    >>> cell = UnICORNN(3, dt=0.5)
    >>> y, z = cell.step(torch.zeros(2, 1, 3), torch.zeros(2, 0, 3), (torch.zeros(2, 3), torch.ones(2, 3)))
    >>> z[0].tolist()
    [1.0, 1.0, 1.0]
    """

    gates = 1
    recurrent_gates = 0
    states = 2
    elementwise = True

    def __init__(self, hidden_size: int, dt: float = 0.1, alpha: float = 1.0) -> None:
        super().__init__()
        _check.positive("hidden_size", hidden_size)
        self.dt, self.alpha = float(_check.above_zero("dt", dt)), float(_check.at_least("alpha", alpha, 0))
        self.w = nn.Parameter(torch.rand(hidden_size))
        self.c = nn.Parameter(torch.empty(hidden_size).uniform_(-0.1, 0.1))

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        y, z = state
        tau = self.dt * torch.sigmoid(self.c)  # (1)
        z_next = z - tau * (torch.tanh(self.w * y + wx[:, 0]) + self.alpha * y)  # (2)
        return y + tau * z_next, z_next  # (3)
