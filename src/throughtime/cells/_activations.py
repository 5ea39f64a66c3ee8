"""Activations of the simple network, each with its derivative written as a function of its output.

a is the pre-activation, y = φ(a) the output; shapes are those of the caller, elementwise.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


class AbstractActivation(abc.ABC):
    """φ, and its vector-Jacobian product."""

    @abc.abstractmethod
    def __call__(self, a: Tensor) -> Tensor:
        """y = φ(a)."""

    @abc.abstractmethod
    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        """da = (∂y/∂a)ᵀ dy, from the pre-activation ``a`` or the output ``y``, whichever is cheaper."""

    def saturated(self, y: Tensor) -> Tensor:
        """Where the slope at output ``y`` is below 5 % of its greatest, so that hardly a gradient passes; bool, as ``y``."""
        return torch.zeros_like(y, dtype=torch.bool)


@final
@dataclass(frozen=True)
class Tanh(AbstractActivation):
    """tanh a; tanh′ = 1 − y²."""

    def __call__(self, a: Tensor) -> Tensor:
        return torch.tanh(a)

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (1 - y * y)

    def saturated(self, y: Tensor) -> Tensor:
        return 1 - y * y < 0.05


@final
@dataclass(frozen=True)
class Sigmoid(AbstractActivation):
    """σ(a) = 1 / (1 + e^−a); σ′ = y (1 − y)."""

    def __call__(self, a: Tensor) -> Tensor:
        return torch.sigmoid(a)

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (y * (1 - y))

    def saturated(self, y: Tensor) -> Tensor:
        return y * (1 - y) < 0.05 * 0.25  # σ′ is ¼ at most


@final
@dataclass(frozen=True)
class Relu(AbstractActivation):
    """max(a, 0); the derivative is 1 where y > 0 and 0 elsewhere (0 at a = 0, as torch)."""

    def __call__(self, a: Tensor) -> Tensor:
        return torch.relu(a)

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        return torch.where(y > 0, dy, 0)

    def saturated(self, y: Tensor) -> Tensor:
        return y <= 0


@final
@dataclass(frozen=True)
class Identity(AbstractActivation):
    """a itself: the linear network."""

    def __call__(self, a: Tensor) -> Tensor:
        return a

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        return dy


@final
@dataclass(frozen=True)
class FromCallable(AbstractActivation):
    """Any torch function from (B, H) to (B, H), differentiated at ``a`` by ``torch.func``.

    It need not be elementwise: a function that mixes the units of a sample (softmax, say) is differentiated with
    its whole Jacobian.

    >>> softmax = FromCallable(lambda a: torch.softmax(a, -1))
    >>> a = torch.zeros(1, 4)
    >>> softmax.vjp(a, softmax(a), torch.ones(1, 4)).abs().max().item()  # what sums to 1 has no slope along ones
    0.0
    """

    function: Callable[[Tensor], Tensor]

    def __call__(self, a: Tensor) -> Tensor:
        return self.function(a)

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        pull = torch.func.vjp(self.function, a)[1]
        return pull(dy)[0]
