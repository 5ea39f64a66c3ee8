"""Gated cells with a dense R, one step of one stage.

B batch · G gates · H hidden.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ..._shapes import State
from .._base import AbstractCell
from ._vectors import zeros


def _gates(wx: Tensor, rh: Tensor) -> tuple[Tensor, ...]:
    return (wx + rh).unbind(1)


@final
@dataclass(frozen=True)
class MGU(AbstractCell):
    """The minimal gated unit: one gate, reset after the product.

        f  = σ(wx_f + rh_f)                 (1)
        n  = tanh(wx_n + f ⊙ rh_n)          (2)
        h' = (1 − f) ⊙ h + f ⊙ n            (3)

    References:
        Zhou, Wu, Zhang & Zhou, *Minimal gated unit for recurrent neural networks*, 2016, whose (2) is tanh(wx_n + R_n (f ⊙ h) + b):
        the gate is before the product there, and after it here, as in ``GRU``.

    >>> h = (torch.ones(4, 3),)
    >>> MGU().step(torch.zeros(4, 2, 3), torch.zeros(4, 2, 3), h)[0][0].tolist()
    [0.5, 0.5, 0.5]
    """

    gates = 2
    states = 1
    elementwise = True

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        (h,) = state
        f = torch.sigmoid(wx[:, 0] + rh[:, 0])  # (1)
        n = torch.tanh(wx[:, 1] + f * rh[:, 1])  # (2)
        return ((1 - f) * h + f * n,)  # (3)


@final
@dataclass(frozen=True)
class UGRNN(AbstractCell):
    """The update gate network: a simple network that may keep its state.

        g  = σ(wx_g + rh_g)                 (1)
        c  = tanh(wx_c + rh_c)              (2)
        h' = g ⊙ h + (1 − g) ⊙ c            (3)

    References:
        Collins, Sohl-Dickstein & Sussillo, *Capacity and trainability in recurrent neural networks*, 2017. TensorFlow's ``UGRNNCell``
        begins with a bias of 1 in g, which ``nn.ForgetBias`` sets here.

    >>> h = (torch.ones(4, 3),)
    >>> UGRNN().step(torch.zeros(4, 2, 3), torch.zeros(4, 2, 3), h)[0][0].tolist()
    [0.5, 0.5, 0.5]
    """

    gates = 2
    states = 1
    elementwise = True
    adds_halves = True
    memory_gate = 0

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        (h,) = state
        a_g, a_c = _gates(wx, rh)
        g = torch.sigmoid(a_g)  # (1)
        c = torch.tanh(a_c)  # (2)
        return (g * h + (1 - g) * c,)  # (3)


@final
@dataclass(frozen=True)
class CoupledLSTM(AbstractCell):
    """The LSTM whose input gate is what its forget gate leaves: i = 1 − f.

        f  = σ(wx_f + rh_f)                 (1)
        g  = tanh(wx_g + rh_g)              (2)
        o  = σ(wx_o + rh_o)                 (3)
        c' = f ⊙ c + (1 − f) ⊙ g            (4)
        h' = o ⊙ tanh(c')                   (5)

    References:
        Greff, Srivastava, Koutník, Steunebrink & Schmidhuber, *LSTM: a search space odyssey*, 2017, the variant CIFG without peepholes.
        There i is computed and f = 1 − i: this cell with weights of the other sign in (1), since 1 − σ(a) = σ(−a).

    >>> state = torch.zeros(4, 3), torch.ones(4, 3)
    >>> CoupledLSTM().step(torch.zeros(4, 3, 3), torch.zeros(4, 3, 3), state)[1][0].tolist()
    [0.5, 0.5, 0.5]
    """

    gates = 3
    states = 2
    elementwise = True
    adds_halves = True
    memory_gate = 0

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        _, c = state
        a_f, a_g, a_o = _gates(wx, rh)
        f = torch.sigmoid(a_f)  # (1)
        c_next = f * c + (1 - f) * torch.tanh(a_g)  # (2), (4)
        return torch.sigmoid(a_o) * torch.tanh(c_next), c_next  # (3), (5)


@final
class PeepholeLSTM(AbstractCell, nn.Module):
    """The LSTM whose gates see the memory through learned vectors p (H,), its peepholes.

        i  = σ(wx_i + rh_i + p_i ⊙ c)       (1)
        f  = σ(wx_f + rh_f + p_f ⊙ c)       (2)
        g  = tanh(wx_g + rh_g)              (3)
        c' = f ⊙ c + i ⊙ g                  (4)
        o  = σ(wx_o + rh_o + p_o ⊙ c')      (5)
        h' = o ⊙ tanh(c')                   (6)

    Args:
        hidden_size: H.

    References:
        Gers, Schraudolph & Schmidhuber, *Learning precise timing with LSTM recurrent networks*, 2002, for the peepholes: those of i and f
        see the memory before the step, that of o after it. Graves, *Generating sequences with recurrent neural networks*, 2013, eq. 7–11,
        for all of the step.

    >>> cell = PeepholeLSTM(3)
    >>> state = torch.zeros(4, 3), torch.ones(4, 3)
    >>> cell.step(torch.zeros(4, 4, 3), torch.zeros(4, 4, 3), state)[1].shape
    torch.Size([4, 3])
    """

    gates = 4
    states = 2
    elementwise = True
    memory_gate = 1
    input_gate = 0

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.p_i, self.p_f, self.p_o = zeros(hidden_size, 3)

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        _, c = state
        a_i, a_f, a_g, a_o = _gates(wx, rh)
        i = torch.sigmoid(a_i + self.p_i * c)  # (1)
        f = torch.sigmoid(a_f + self.p_f * c)  # (2)
        c_next = f * c + i * torch.tanh(a_g)  # (3), (4)
        o = torch.sigmoid(a_o + self.p_o * c_next)  # (5)
        return o * torch.tanh(c_next), c_next  # (6)


@final
@dataclass(frozen=True)
class CfC(AbstractCell):
    """The closed-form continuous-time network with one layer of weights and steps of equal length.

        f  = tanh(wx_f + rh_f)              (1)     g = tanh(wx_g + rh_g)           (2)
        t  = σ(wx_t + rh_t)                 (3)     h' = (1 − t) ⊙ f + t ⊙ g        (4)

    References:
        Hasani et al., *Closed-form continuous-time neural networks*, 2022, eq. 10, with the time since the last step a constant. The
        authors' code puts a network of its own, the backbone, before the three heads; with ``backbone_layers=0`` it is this cell.

    >>> CfC().step(torch.ones(4, 3, 5), torch.zeros(4, 3, 5), (torch.zeros(4, 5),))[0].shape
    torch.Size([4, 5])
    """

    gates = 3
    states = 1
    elementwise = True
    adds_halves = True

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        a_f, a_g, a_t = _gates(wx, rh)
        t = torch.sigmoid(a_t)  # (3)
        return ((1 - t) * torch.tanh(a_f) + t * torch.tanh(a_g),)  # (1), (2), (4)


@final
@dataclass(frozen=True)
class STAR(AbstractCell):
    """The stackable recurrent cell: one gate, and a candidate that sees the input alone.

        k  = σ(wx_k + rh_k)                 (1)
        z  = tanh(wx_z)                     (2)
        h' = tanh((1 − k) ⊙ h + k ⊙ z)      (3)

    R has one row of blocks, that of k.

    References:
        Turkoglu, D'Aronco, Wegner & Schindler, *Gating revisited: deep multi-layer RNNs that can be trained*, 2021, eq. 10–12.

    >>> STAR().step(torch.zeros(4, 2, 3), torch.zeros(4, 1, 3), (torch.zeros(4, 3),))[0][0].tolist()
    [0.0, 0.0, 0.0]
    """

    gates = 2
    recurrent_gates = 1
    states = 1
    elementwise = True

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        (h,) = state
        k = torch.sigmoid(wx[:, 0] + rh[:, 0])  # (1)
        return (torch.tanh((1 - k) * h + k * torch.tanh(wx[:, 1])),)  # (2), (3)


@final
@dataclass(frozen=True)
class NBRC(AbstractCell):
    """The recurrently neuromodulated bistable cell: a unit that can hold one of two values for as long as it likes.

        a  = 1 + tanh(wx_a + rh_a)          (1)     above 1 the unit has two stable values
        c  = σ(wx_c + rh_c)                 (2)
        h' = c ⊙ h + (1 − c) ⊙ tanh(wx_h + a ⊙ h)       (3)

    R has two rows of blocks, those of a and c.

    References:
        Vecoven, Ernst & Drion, *A bio-inspired bistable recurrent cell allows for long-lasting memory*, 2021, eq. 5–7.

    >>> NBRC().step(torch.zeros(4, 3, 5), torch.zeros(4, 2, 5), (torch.zeros(4, 5),))[0].abs().max().item()
    0.0
    """

    gates = 3
    recurrent_gates = 2
    states = 1
    elementwise = True
    memory_gate = 1

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        (h,) = state
        a = 1 + torch.tanh(wx[:, 0] + rh[:, 0])  # (1)
        c = torch.sigmoid(wx[:, 1] + rh[:, 1])  # (2)
        return (c * h + (1 - c) * torch.tanh(wx[:, 2] + a * h),)  # (3)
