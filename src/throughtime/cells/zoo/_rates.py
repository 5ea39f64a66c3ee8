"""Networks of rates in continuous time, by Euler's rule.

B batch · G gates · H hidden.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ... import _check
from ..._shapes import State
from .._base import AbstractCell
from .._constraints import Dale


@final
class CTRNN(AbstractCell, nn.Module):
    """A continuous-time network in steps of one, whose units learn their time constants.

        α  = σ(ρ),  1/α the time constant of a unit in steps        (1)     ρ (H,) learned
        h' = (1 − α) ⊙ h + α ⊙ tanh(wx + rh)                        (2)

    Args:
        hidden_size: H.
        time_constant: of every unit at the start, in steps, above 1.

    References:
        Yang, Joglekar, Song, Newsome & Wang, *Task representations in neural networks trained to perform many cognitive tasks*, 2019:
        τ dr/dt = −r + f(W r + …), by Euler's rule, here with tanh and a time constant for each unit. Funahashi & Nakamura's network (1993)
        applies the function to each unit before the product, τ dx/dt = −x + W f(x) + …, which is ``EINetwork``'s form.

    >>> cell = CTRNN(3, time_constant=4.0)
    >>> cell.step(torch.zeros(2, 1, 3), torch.zeros(2, 1, 3), (torch.ones(2, 3),))[0][0].tolist()
    [0.75, 0.75, 0.75]
    """

    gates = 1
    states = 1
    elementwise = True
    adds_halves = True

    def __init__(self, hidden_size: int, time_constant: float = 2.0) -> None:
        super().__init__()
        _check.positive("hidden_size", hidden_size)
        if not time_constant > 1:
            raise _check.InputError(f"time_constant is {time_constant!r}; expected more than 1 step. Elman() is the network of 1 step.")
        self.rho = nn.Parameter(torch.full((hidden_size,), 1 / time_constant).logit())

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        (h,) = state
        alpha = torch.sigmoid(self.rho)  # (1)
        return ((1 - alpha) * h + alpha * torch.tanh(wx[:, 0] + rh[:, 0]),)  # (2)


@final
@dataclass(frozen=True)
class EINetwork(AbstractCell):
    """A network of rates in which a unit excites all others or inhibits all others (Dale's law).

        x' = (1 − α) x + α (wx + rh)        (1)     x the membrane potential
        r' = max(0, x')                     (2)     r the rate, which R multiplies and which is the output
        R  = |V| diag(s)                    (3)     s the sign of each unit, V free (``cells.Dale``)

    The first units are excitatory. Inhibition is scaled so that both sum to zero at the start.

    Args:
        alpha: the step over the time constant, above 0 and at most 1.
        excitatory: the share of excitatory units, between 0 and 1.

    References:
        Song, Yang & Wang, *Training excitatory-inhibitory recurrent neural networks for cognitive tasks*, 2016, eq. 1 and 2 by Euler's
        rule, without noise. The paper names |V| and [V]₊ to keep entries positive and takes the second; the first, here, has a gradient
        everywhere but at 0. The paper restricts W and the readout too; here both are free.

    >>> from throughtime.nn import Recurrence
    >>> stack = Recurrence(EINetwork(excitatory=0.75), 2, 4)
    >>> stack.weight_hh_l0.sign()[0].tolist()
    [1.0, 1.0, 1.0, -1.0]
    """

    alpha: float = 0.2
    excitatory: float = 0.8

    gates = 1
    states = 2
    elementwise = True
    adds_halves = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise _check.InputError(f"alpha is {self.alpha!r}; expected the step over the time constant, above 0 and at most 1.")
        if not 0 < self.excitatory < 1:
            raise _check.InputError(f"excitatory is {self.excitatory!r}; expected the share of excitatory units, between 0 and 1.")

    def constraint(self, hidden_size: int) -> nn.Module | None:
        count = min(max(round(self.excitatory * hidden_size), 1), max(hidden_size - 1, 1))
        inhibition = -count / max(hidden_size - count, 1)
        return Dale(torch.where(torch.arange(hidden_size) < count, 1.0, inhibition))  # (3)

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        _, x = state
        x_next = (1 - self.alpha) * x + self.alpha * (wx[:, 0] + rh[:, 0])  # (1)
        return torch.relu(x_next), x_next  # (2)
