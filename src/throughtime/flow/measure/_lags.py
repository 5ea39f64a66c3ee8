"""The gradient taken apart by lag: every loss led back one step at a time, all of them at once.

With c_t = ∂L_t/∂s_t, J_t = ∂s_t/∂s_{t−1} the Jacobian of the joint state of all layers, and I_t = ∂s_t/∂θ at fixed s_{t−1}:

    v_t^0 = c_t                                     (1)     the loss of step t alone
    v_t^{k+1} = v_t^k J_{t−k}                       (2)     led back from step t − k to t − k − 1
    A[t, k] = ‖v_t^k‖                               (3)     per stream
    g^(k) = scale · Σ_t v_t^k I_{t−k}               (4)     Σ_k g^(k) = dL/dθ
    λ_u = v_{u+K}^K + λ_{u+1} J_{u+1}               (5)     all lags from K on, in one ordinary backward pass

Row u of the arrays is the step that the adjoint has come to, u = t − k. Then lag k needs the rows first − k … last − k of every
coefficient, a contiguous stretch, and (2) is one product of all of them with R: K products in all, none of which sees a pair (t, k).
In a stack the joint J is block lower triangular: within a step the adjoint goes down from layer to layer before it goes back.

Where v fades or grows, it is multiplied by a power of two, which is exact, and the exponent kept aside: far lags of a vanishing
network would otherwise be denormal numbers, a hundred times slower than others, and then nothing.

T time · B batch · I input · G gates · H hidden · S states · L layers · K lags.

References: Werbos 1990; Aicher, Foti & Fox, *Adaptively truncating backpropagation through time to control gradient bias*, 2019,
whose φ_k is the mean of (3).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...nn import LayerTrace
from ._traced import Traced

_FAR = 2.0**16  # norms outside [1/_FAR, _FAR] are brought back to 1


@final
@dataclass(frozen=True, eq=False)
class Lag:
    """What is known at lag k, the adjoints at the rows u = start … stop − 1, n of them. True values are these times ``factor``.

    Attributes:
        joint: (n, B) norms of v^k in the joint state.
        layers: L of (n, B), each layer's own adjoint by every path within the step.
        inputs: (n, B) norms of the adjoints of x, or None.
        border: (B,) norms of the adjoints of the joint state before step 0, where row 0 is among the rows; else None.
    """

    k: int
    start: int
    stop: int
    factor: float
    joint: Tensor
    layers: Sequence[Tensor]
    inputs: Tensor | None
    border: Tensor | None


@final
class LagPass:
    """Leads the losses of the steps first … last back together.

    Args:
        inputs: find the adjoints of x.
        weights: find g^(k).
    """

    def __init__(self, traced: Traced, first: int, last: int, *, inputs: bool, weights: bool) -> None:
        self.traced, self.first, self.last, self.inputs = traced, first, last, inputs
        self.T, self.B = traced.counted.shape
        self.weights = weights
        self.here = [_buffers(layer) for layer in traced.layers]  # rows (u + 1)·B …: the adjoint of the state after step u
        self.there = [_buffers(layer) for layer in traced.layers]
        self.here[-1][0][self.B :] = traced.dhs.flatten(0, 1)  # (1)
        wants_dx = inputs or (weights and traced.xs.requires_grad)
        self.dxs = torch.zeros_like(traced.xs).flatten(0, 1) if wants_dx else None  # zero wherever no loss has come
        self.exponent = 0

    def walk(self, K: int) -> Iterator[Lag]:
        """Lags 0 … K − 1 in turn. While one is looked at, ``gradients`` gives its part of dL/dθ."""
        for k in range(K):
            start, stop = max(0, self.first - k), self.last - k + 1
            if k > 0:
                self.here, self.there = self.there, self.here
                if self.dxs is not None:
                    self.dxs[self._steps(stop, stop + 1)].zero_()  # the last lag's latest row
            joint = self._rescaled(self._joint(start, stop), start, stop)
            layers, inputs = self._back(start, stop, joint)
            border = self._norm([d[: self.B] for adjoints in self.there for d in adjoints])[0] if start == 0 else None
            yield Lag(k, start, stop, _power(-self.exponent), joint, layers, inputs, border)

    def beyond(self, K: int) -> Lag | None:
        """(5), after ``walk(K)``: all farther lags in one pass; None where there are none. ``gradients`` then gives their part."""
        start, stop = max(0, self.first - K), self.last - K + 1
        if stop <= 0:
            return None
        self.here, self.there = self.there, self.here
        for adjoints in self.here:
            for d in adjoints:
                d[self._steps(0, start + 1)].zero_()  # no loss has come there yet
        if self.dxs is not None:
            self.dxs.zero_()
        for u in reversed(range(stop)):
            self._back(u, u + 1, None)
            for here, there in zip(self.here, self.there, strict=True):
                for d, arrived in zip(here, there, strict=True):
                    d[self._steps(u, u + 1)] += arrived[self._steps(u, u + 1)]  # (5)
        nothing = self.here[0][0].new_empty(0, self.B)
        return Lag(K, 0, stop, _power(-self.exponent), nothing, (), None, None)

    def gradients(self, lag: Lag) -> dict[str, Tensor]:
        """(4) without its scale and factor: parameter name → Σ_t v_t I, for those that time reaches; overwritten by the next lag."""
        found: dict[str, Tensor] = {}
        rows, after = self._steps(lag.start, lag.stop), self._steps(lag.start + 1, lag.stop + 1)
        for layer, stored, here in zip(self.traced.layers, self.traced.stored, self.here, strict=True):
            vectors = layer.vector_gradients(rows, tuple(d[after] for d in here))
            for p, g in zip(stored, (*layer.weight_gradients.of(rows), *(() if vectors is None else vectors)), strict=True):
                found |= {} if p is None or g is None or not p.requires_grad else self.traced.named(p, g)
        if self.traced.xs.requires_grad and self.dxs is not None:
            found |= self.traced.lead_on((self.traced.xs,), (self.dxs.view_as(self.traced.xs),))
        if lag.start == 0 and self.traced.before[0].requires_grad:
            ends = tuple(torch.stack([d[: self.B] for d in parts]) for parts in zip(*self.there, strict=True))  # (L, B, H) each
            found |= self.traced.lead_on(self.traced.before, ends)
        return found

    def _steps(self, start: int, stop: int) -> slice:
        """The rows of steps start … stop − 1, B each."""
        return slice(start * self.B, stop * self.B)

    def _back(self, start: int, stop: int, joint: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        """(2), top layer first; and, where ``joint`` is given, the norms on the way."""
        rows, after, layers = self._steps(start, stop), self._steps(start + 1, stop + 1), self.traced.layers
        norms: list[Tensor] = []
        for ell in reversed(range(len(layers))):
            here = tuple(d[after] for d in self.here[ell])
            if joint is not None:
                norms.insert(0, joint if len(layers) == 1 else self._norm(here))
            wants_dwx = ell > 0 or self.weights or self.dxs is not None
            layers[ell].pull(rows, here, tuple(d[rows] for d in self.there[ell]), wants_dwx=wants_dwx)
            if ell > 0:
                layers[ell].pull_input(rows, self.here[ell - 1][0][after], add=True)
        if self.dxs is None:
            return norms, None
        layers[0].pull_input(rows, self.dxs[rows], add=False)
        return norms, self._norm((self.dxs[rows],)) if self.inputs else None

    def _joint(self, start: int, stop: int) -> Tensor:
        """(3)."""
        after = self._steps(start + 1, stop + 1)
        return self._norm([d[after] for adjoints in self.here for d in adjoints])

    def _norm(self, parts: Sequence[Tensor]) -> Tensor:
        """(n, B): Euclidean over the units of all parts, (n·B, H) each."""
        norms = [torch.linalg.vector_norm(d, dim=1) for d in parts]
        whole = norms[0] if len(norms) == 1 else torch.stack(norms).square_().sum(0).sqrt_()
        return whole.view(-1, self.B)

    def _rescaled(self, joint: Tensor, start: int, stop: int) -> Tensor:
        """The same norms, they and the adjoints multiplied by a power of two where they have gone far from 1."""
        largest = float(joint.max())
        if not 0 < largest < math.inf or 1 / _FAR < largest < _FAR:
            return joint
        shift = -round(math.log2(largest))
        self.exponent += shift
        for adjoints in self.here:
            for d in adjoints:
                d[self._steps(start + 1, stop + 1)] *= 2.0**shift
        return joint * 2.0**shift


def _buffers(layer: LayerTrace) -> list[Tensor]:
    """S tensors ((T + 1)·B, H)."""
    return [torch.zeros_like(s).flatten(0, 1) for s in layer.states]


def _power(exponent: int) -> float:
    """2^exponent, 0 or infinite where that is beyond a float."""
    return math.inf if exponent > 1023 else 2.0**exponent
