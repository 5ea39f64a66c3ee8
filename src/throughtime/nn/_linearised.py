"""One layer's step as a linear map: it pushes tangents forward, pulls adjoints back, and gives its Jacobian.

N points (any steps of any streams) · I input · H hidden · G gates · S states · K tangents or adjoints at each point.

With s_t = f(W x_t + b_ih, R h_{t−1} + b_hh, s_{t−1}), x_t = m ⊙ (output of the layer below), m the mask that dropout has drawn:

    ∂s_t/∂s_{t−1} = ∂f/∂(rh) R + ∂f/∂s      (1)         ∂s_t/∂(below) = ∂f/∂(wx) W diag(m)      (2)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from ..cells import StepDerivative


@final
@dataclass(frozen=True, eq=False)
class StepAdjoints:
    """The adjoints of everything that a layer's step depends on, from ``LinearisedStep.pull``.

    >>> import torch
    >>> from throughtime import cells, nn
    >>> step = nn.Recurrence(cells.LSTM(), 3, 5).trace(torch.randn(7, 4, 3)).layers[0].at(6)
    >>> d = step.pull(torch.ones(2, 4, 5))
    >>> d.wx.shape, d.before.shape, d.below.shape
    (torch.Size([4, 4, 5]), torch.Size([2, 4, 5]), torch.Size([4, 3]))
    """

    wx: Tensor  # (G, *K, N, H)
    rh: Tensor  # (rows of R, *K, N, H)
    own: Tensor  # (V, *K, N, H) of the cell's own learned vectors, of which each unit has an entry
    before: Tensor  # (S, *K, N, H) of the state before the step, with the path through R
    step: "LinearisedStep"

    @cached_property
    def below(self) -> Tensor:
        """(*K, N, I) of the layer below's output, before the mask."""
        below = torch.einsum("g...i,gij->...j", self.wx, self.step.W)
        return below if self.step.mask is None else below * self.step.mask


@final
@dataclass(frozen=True, eq=False)
class LinearisedStep:
    """The derivative of a layer's step at N points. ``LayerTrace.at`` makes it.

    Attributes:
        W: (G, H, I).
        R: (G, H, H), a block for each gate that has one.
        derivative: the derivative of the cell.
        mask: (N, I) the dropout mask of the layer's input; None: no dropout.
        by_own: (S, V, N, H) the derivative by the cell's own V learned vectors; None: it has none, or they were not asked for.

    >>> from throughtime import cells, nn
    >>> stack = nn.Recurrence(cells.Elman(cells.Identity()), 3, 5)
    >>> step = stack.trace(torch.randn(7, 4, 3)).layers[0].at(6)
    >>> torch.equal(step.jacobian()[0], stack.weight_hh_l0)  # h_t = W x_t + R h_{t−1} + b
    True
    """

    W: Tensor
    R: Tensor
    derivative: StepDerivative
    mask: Tensor | None
    by_own: Tensor | None = None

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
        """Tangents (S, *K, N, H) of the state after the step.

        Args:
            dstate: tangents of the state before the step, (S, *K, N, H).
            dbelow: tangents of the layer below's output, (*K, N, I); None for zeros.
        """
        drh = torch.einsum("...j,gij->g...i", dstate[0], self.R)
        if dbelow is None:
            return self.derivative.push(drh.new_zeros(len(self.W), *drh.shape[1:]), drh, dstate)
        dx = dbelow if self.mask is None else dbelow * self.mask
        return self.derivative.push(torch.einsum("...j,gij->g...i", dx, self.W), drh, dstate)

    def pull(self, adjoint: Tensor) -> StepAdjoints:
        """The adjoints that follow from an adjoint of the state after the step, (S, *K, N, H)."""
        wx, rh, before = self.derivative.pull(adjoint)
        before[0] += torch.einsum("g...i,gij->...j", rh, self.R)
        own = adjoint.new_zeros(0, *adjoint.shape[1:])
        if self.by_own is not None:
            own = torch.einsum("pvni,p...ni->v...ni", self.by_own, adjoint)
        return StepAdjoints(wx, rh, own, before, self)


@final
@dataclass(frozen=True)
class LinearisedStack:
    """The derivatives of all layers' steps at the same N points, bottom layer first. ``Trace.at`` makes it.

    >>> from throughtime import cells, nn
    >>> stack = nn.Recurrence(cells.GRU(), 3, 5, num_layers=2).trace(torch.randn(7, 4, 3)).at(6)
    >>> tangents = stack.push([torch.ones(1, 4, 5), torch.zeros(1, 4, 5)])  # of the state before, layer by layer
    >>> [t.shape for t in tangents]
    [torch.Size([1, 4, 5]), torch.Size([1, 4, 5])]
    """

    layers: list[LinearisedStep]

    def push(self, tangents: Sequence[Tensor]) -> list[Tensor]:
        """J q: the tangents of every layer's state after the step, from those of the states before it, L of (S, *K, N, H)."""
        after: list[Tensor] = []
        for step, tangent in zip(self.layers, tangents, strict=True):
            after.append(step.push(tangent, after[-1][0] if after else None))
        return after

    def pull(self, adjoints: Sequence[Tensor]) -> list[StepAdjoints]:
        """v J: each layer's adjoints, from the adjoints of every layer's state after the step, L of (S, *K, N, H)."""
        pulled: list[StepAdjoints] = []
        for step, adjoint in zip(reversed(self.layers), reversed(adjoints), strict=True):
            adjoint = adjoint if not pulled else torch.cat((adjoint[:1] + pulled[-1].below, adjoint[1:]))
            pulled.append(step.pull(adjoint))
        return pulled[::-1]
