"""The long short-term memory whose c is normalised where h is made of it.

    h' = o ⊙ tanh(n(c')),   n(c) = gain ⊙ (c − mean c)/√(var c + ε) + offset        (1)

References: Ba, Kiros & Hinton, *Layer normalization*, 2016 (eq. 22).
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from .._shapes import State
from ..cells import LSTM, AbstractCell


@final
@dataclass(frozen=True, eq=False)
class NormalisedLSTM(AbstractCell):
    """LSTM's gates and c; h by (1)."""

    gain: Tensor  # (H,)
    offset: Tensor  # (H,)

    gates = 4
    states = 2

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        _, c = LSTM().step(wx, rh, state)
        *_, o = LSTM().gate_values(wx, rh)
        return o * torch.tanh(functional.layer_norm(c, self.gain.shape, self.gain, self.offset)), c  # (1)
