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
    """An activation φ and its vector-Jacobian product.

    >>> class Cube(AbstractActivation):
    ...     def __call__(self, a):
    ...         return a**3
    ...     def vjp(self, a, y, dy):
    ...         return dy * 3 * a**2
    >>> from throughtime.cells import Elman
    >>> (h_next,) = Elman(Cube()).step(torch.full((4, 1, 3), 2.0), torch.zeros(4, 1, 3), (torch.zeros(4, 3),))
    >>> h_next[0].tolist()
    [8.0, 8.0, 8.0]
    """

    @abc.abstractmethod
    def __call__(self, a: Tensor) -> Tensor:
        """y = φ(a)."""

    @abc.abstractmethod
    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        """da = (∂y/∂a)ᵀ dy, from the pre-activation ``a`` or the output ``y``, whichever is cheaper."""

    def saturated(self, y: Tensor) -> Tensor:
        """True where the slope at output ``y`` is below 5 % of its maximum, so that little gradient passes; bool, shaped as ``y``."""
        return torch.zeros_like(y, dtype=torch.bool)


@final
@dataclass(frozen=True)
class Tanh(AbstractActivation):
    """tanh a; tanh′ = 1 − y².

    >>> y = Tanh()(torch.tensor([0.0, 3.0]))
    >>> Tanh().saturated(y).tolist()  # at a = 3 the slope is 1 % of the slope at 0
    [False, True]
    """

    def __call__(self, a: Tensor) -> Tensor:
        return torch.tanh(a)

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (1 - y * y)

    def saturated(self, y: Tensor) -> Tensor:
        return 1 - y * y < 0.05


@final
@dataclass(frozen=True)
class Sigmoid(AbstractActivation):
    """σ(a) = 1 / (1 + e^−a); σ′ = y (1 − y).

    >>> a = torch.zeros(1)
    >>> Sigmoid().vjp(a, Sigmoid()(a), torch.ones(1)).item()  # the maximum slope
    0.25
    """

    def __call__(self, a: Tensor) -> Tensor:
        return torch.sigmoid(a)

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        return dy * (y * (1 - y))

    def saturated(self, y: Tensor) -> Tensor:
        return y * (1 - y) < 0.05 * 0.25  # the maximum of σ′ is ¼


@final
@dataclass(frozen=True)
class Relu(AbstractActivation):
    """max(a, 0); the derivative is 1 where y > 0 and 0 elsewhere (0 at a = 0, as in torch).

    >>> a = torch.tensor([-1.0, 2.0])
    >>> Relu().vjp(a, Relu()(a), torch.tensor([5.0, 5.0])).tolist()
    [0.0, 5.0]
    """

    def __call__(self, a: Tensor) -> Tensor:
        return torch.relu(a)

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        return torch.where(y > 0, dy, 0)

    def saturated(self, y: Tensor) -> Tensor:
        return y <= 0


@final
@dataclass(frozen=True)
class Identity(AbstractActivation):
    """a itself, for a linear network.

    >>> Identity()(torch.tensor([-1.5, 2.0])).tolist()
    [-1.5, 2.0]
    """

    def __call__(self, a: Tensor) -> Tensor:
        return a

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        return dy


@final
@dataclass(frozen=True)
class FromCallable(AbstractActivation):
    """Any torch function from (B, H) to (B, H), differentiated at ``a`` by ``torch.func``.

    The function need not be elementwise. One that mixes the units of a sample, such as softmax, is differentiated with
    its full Jacobian.

    >>> softmax = FromCallable(lambda a: torch.softmax(a, -1))
    >>> a = torch.zeros(1, 4)
    >>> softmax.vjp(a, softmax(a), torch.ones(1, 4)).abs().max().item()  # the outputs sum to 1, so their sum has no slope
    0.0
    """

    function: Callable[[Tensor], Tensor]

    def __call__(self, a: Tensor) -> Tensor:
        return self.function(a)

    def vjp(self, a: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        pull = torch.func.vjp(self.function, a)[1]
        return pull(dy)[0]
