"""The simple recurrent network (Elman 1990), with any activation.

    a  = wx + rh                (1)     wx = W x + b_ih,  rh = R h + b_hh
    h' = φ(a)                   (2)

Differentiated by hand, with δ = ∂L/∂h' (the loss at this step, and all that comes back from later ones):

    da = (∂φ/∂a)ᵀ δ             (3)     for tanh: δ ⊙ (1 − h'²)
    dwx = drh = da              (4)     ∂L/∂h = Rᵀ da is the time loop's, and nothing else reaches h
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from .._shapes import State
from ._activations import AbstractActivation, FromCallable, Tanh
from ._base import AbstractCell, Gate
from ._derivative import StepDerivative


@final
@dataclass(frozen=True)
class Elman(AbstractCell):
    """h' = φ(W x + b_ih + R h + b_hh).

    Args:
        activation: one of ``Tanh() Relu() Identity() Sigmoid()``, or any torch callable from (B, H) to (B, H).

    References:
        Elman, *Finding structure in time*, 1990. As ``torch.nn.RNN``.

    >>> wx, rh, h = torch.ones(4, 1, 3), torch.zeros(4, 1, 3), torch.zeros(4, 3)
    >>> (h_next,) = Elman(torch.sin).step(wx, rh, (h,))
    >>> torch.equal(h_next, torch.ones(4, 3).sin())
    True
    """

    activation: AbstractActivation | Callable[[Tensor], Tensor] = field(default_factory=Tanh)

    gates = 1
    states = 1
    adds_halves = True

    @property
    def phi(self) -> AbstractActivation:
        """The activation, a bare callable made into one."""
        return self.activation if isinstance(self.activation, AbstractActivation) else FromCallable(self.activation)

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  it depends on the activation
        return not isinstance(self.phi, FromCallable)

    @property
    def named_gates(self) -> tuple[Gate, ...]:
        return (Gate("a", self.phi if self.elementwise else None),)

    def gate_values(self, wx: Tensor, rh: Tensor) -> tuple[Tensor, ...]:
        return (self.phi((wx + rh)[:, 0]),)  # (1), (2)

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        return self.gate_values(wx, rh)

    def step_vjp(self, wx: Tensor, rh: Tensor, state: State, state_next: State, dstate: State) -> tuple[Tensor, Tensor, State]:
        (h_next,), (dh,) = state_next, dstate
        da = self.phi.vjp((wx + rh)[:, 0], h_next, dh)  # (3)
        da = da.unsqueeze(1)  # (B, 1, H)
        return da, da, (torch.zeros_like(dh),)  # (4)

    def derivative(self, wx: Tensor, rh: Tensor, state: State) -> StepDerivative:
        if not self.elementwise:
            return super().derivative(wx, rh, state)
        a = (wx + rh)[:, 0]  # (1)
        slope = self.phi.vjp(a, self.phi(a), torch.ones_like(a))[None, None]  # (3), δ = 1
        return StepDerivative(slope, slope, torch.zeros_like(slope), elementwise=True)  # (4)
