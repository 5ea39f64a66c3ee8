"""One layer's step as a linear map: tangents forward, adjoints back, and the Jacobian itself.

N points (any of time, streams) side by side · I input · H hidden · G gates · S states · K tangents or adjoints at each point.

With s_t = f(W x_t + b_ih, R h_{t−1} + b_hh, s_{t−1}), x_t = m ⊙ (what the layer below gives), m the mask that dropout has drawn:

    ∂s_t/∂s_{t−1} = ∂f/∂(rh) R + ∂f/∂s      (1)         ∂s_t/∂(below) = ∂f/∂(wx) W diag(m)      (2)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from ..cells import StepDerivative


class Pulled(NamedTuple):
    """An adjoint of the state after a step, taken back through it."""

    wx: Tensor  # (G, *K, N, H)
    rh: Tensor  # (G, *K, N, H)
    before: Tensor  # (S, *K, N, H) at the state before, the path through R in it
    below: Tensor  # (*K, N, I) at what the layer below gave, before the mask


@final
@dataclass(frozen=True, eq=False)
class LinearisedStep:
    """A layer's step at N points of its run.

    Attributes:
        W: (G, H, I).
        R: (G, H, H).
        derivative: the cell's own part.
        mask: (N, I) what dropout multiplied the layer's input by; None: nothing.
    """

    W: Tensor
    R: Tensor
    derivative: StepDerivative
    mask: Tensor | None

    def jacobian(self) -> Tensor:
        """(1), (N, S·H, S·H); rows and columns run over (S, H)."""
        d = self.derivative
        if d.elementwise:
            by_h = torch.einsum("pgni,gij->npij", d.by_rh, self.R)
            by_state = torch.diag_embed(d.by_state).permute(2, 0, 3, 1, 4)  # (N, S, H, S, H)
        else:
            by_h = torch.einsum("pgnik,gkj->npij", d.by_rh, self.R)
            by_state = d.by_state.permute(2, 0, 3, 1, 4)
        J = by_state.clone(memory_format=torch.contiguous_format)
        J[:, :, :, 0] += by_h
        return J.flatten(3).flatten(1, 2)

    def input_jacobian(self) -> Tensor:
        """(2), (N, S·H, I)."""
        d = self.derivative
        C = torch.einsum("pgni,gij->npij" if d.elementwise else "pgnik,gkj->npij", d.by_wx, self.W).flatten(1, 2)
        return C if self.mask is None else C * self.mask.unsqueeze(1)

    def push(self, dstate: Tensor, dbelow: Tensor | None) -> Tensor:
        """Tangents of the state after, (S, *K, N, H), from those of the state before and of what the layer below gives, (*K, N, I)."""
        drh = torch.einsum("...j,gij->g...i", dstate[0], self.R)
        if dbelow is None:
            return self.derivative.push(torch.zeros_like(drh), drh, dstate)
        dx = dbelow if self.mask is None else dbelow * self.mask
        return self.derivative.push(torch.einsum("...j,gij->g...i", dx, self.W), drh, dstate)

    def pull(self, adjoint: Tensor) -> Pulled:
        """Adjoints from those of the state after, (S, *K, N, H)."""
        wx, rh, before = self.derivative.pull(adjoint)
        before[0] += torch.einsum("g...i,gij->...j", rh, self.R)
        below = torch.einsum("g...i,gij->...j", wx, self.W)
        return Pulled(wx, rh, before, below if self.mask is None else below * self.mask)


@final
@dataclass(frozen=True)
class LinearisedStack:
    """The layers' steps at the same N points, bottom first."""

    layers: list[LinearisedStep]

    def push(self, tangents: Sequence[Tensor]) -> list[Tensor]:
        """J q: from the tangents of every layer's state before, L of (S, *K, N, H), those after."""
        after: list[Tensor] = []
        for step, tangent in zip(self.layers, tangents, strict=True):
            after.append(step.push(tangent, after[-1][0] if after else None))
        return after

    def pull(self, adjoints: Sequence[Tensor]) -> list[Pulled]:
        """v J: from the adjoints of every layer's state after, L of (S, *K, N, H), what each layer takes back."""
        pulled: list[Pulled] = []
        for step, adjoint in zip(reversed(self.layers), reversed(adjoints), strict=True):
            adjoint = adjoint if not pulled else torch.cat((adjoint[:1] + pulled[-1].below, adjoint[1:]))
            pulled.append(step.pull(adjoint))
        return pulled[::-1]
