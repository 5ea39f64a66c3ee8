"""The leaky network: units that forget at a rate of their own (Jaeger et al. 2007; Murray 2019).

    a  = wx + rh                    (1)     wx = W x + b_ih,  rh = R h + b_hh
    h' = (1 − α) h + α φ(a)         (2)

Differentiated by hand, with δ = ∂L/∂h':

    da = α φ′(a) ⊙ δ                (3)     dwx = drh = da
    dh = (1 − α) δ                  (4)     and Rᵀ da, which is the time loop's
"""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from .. import _check
from .._shapes import State
from ._activations import AbstractActivation, FromCallable, Tanh
from ._base import AbstractCell, Gate
from ._derivative import StepDerivative


@final
@dataclass(frozen=True)
class Leaky(AbstractCell):
    """h' = (1 − α) h + α φ(W x + b_ih + R h + b_hh).

    Args:
        alpha: α in (0, 1], the step over the time constant; 1 is the simple network.
        activation: one of ``Tanh() Relu() Identity() Sigmoid()``.

    Raises:
        InputError: alpha outside (0, 1].

    References:
        Jaeger et al., *Optimization and applications of echo state networks with leaky-integrator neurons*, 2007.

    >>> (h_next,) = Leaky(0.25).step(torch.zeros(2, 1, 3), torch.zeros(2, 1, 3), (torch.ones(2, 3),))
    >>> h_next[0].tolist()
    [0.75, 0.75, 0.75]
    """

    alpha: float
    activation: AbstractActivation = field(default_factory=Tanh)

    gates = 1
    states = 1
    adds_halves = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise _check.InputError(f"alpha is {self.alpha!r}; expected a number above 0, at most 1. Elman() is alpha = 1.")

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  it depends on the activation
        return not isinstance(self.activation, FromCallable)

    @property
    def named_gates(self) -> tuple[Gate, ...]:
        return (Gate("a", self.activation if self.elementwise else None),)

    def gate_values(self, wx: Tensor, rh: Tensor) -> tuple[Tensor, ...]:
        return (self.activation((wx + rh)[:, 0]),)  # (1)

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        (h,) = state
        (y,) = self.gate_values(wx, rh)
        return ((1 - self.alpha) * h + self.alpha * y,)  # (2)

    def step_vjp(self, wx: Tensor, rh: Tensor, state: State, state_next: State, dstate: State) -> tuple[Tensor, Tensor, State]:
        (dh,) = dstate
        a = (wx + rh)[:, 0]
        da = self.activation.vjp(a, self.activation(a), self.alpha * dh).unsqueeze(1)  # (3)
        return da, da, ((1 - self.alpha) * dh,)  # (4)

    def derivative(self, wx: Tensor, rh: Tensor, state: State) -> StepDerivative:
        if not self.elementwise:
            return super().derivative(wx, rh, state)
        a = (wx + rh)[:, 0]  # (1)
        slope = self.activation.vjp(a, self.activation(a), torch.full_like(a, self.alpha))[None, None]  # (3), δ = 1
        return StepDerivative(slope, slope, torch.full_like(slope, 1 - self.alpha), elementwise=True)  # (4)
