"""Where a recurrence starts: the state before the first step.

L layers · B batch · H hidden · S states.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from .._check import InputError


class AbstractInitial(abc.ABC):
    """How the initial state of a stack is made. ``learnable`` gives the stack a parameter ``initial`` (S, L, H)."""

    learnable: ClassVar[bool] = False

    @abc.abstractmethod
    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        """States (S, L, B, H), as one tensor, of the type and on the device of ``like``: the parameter where it is learnable."""


@final
@dataclass(frozen=True)
class Zeros(AbstractInitial):
    """All zeros: the custom."""

    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        return like.new_zeros(shape)


@final
@dataclass(frozen=True)
class Random(AbstractInitial):
    """Normal with standard deviation ``std``, drawn anew each time a stream starts, from torch's global generator."""

    std: float = 1.0

    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        return like.new_empty(shape).normal_(0.0, self.std)


@final
@dataclass(frozen=True, eq=False)
class Given(AbstractInitial):
    """A fixed state (S, L, H), the same for every stream."""

    states: Tensor

    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        S, L, _, H = shape
        if tuple(self.states.shape) != (S, L, H):
            raise InputError(f"Given(states) has shape {tuple(self.states.shape)}; expected (S, L, H) = ({S}, {L}, {H}).")
        return self.states.to(like).unsqueeze(2).expand(shape)


@final
@dataclass(frozen=True)
class Learnable(AbstractInitial):
    """A parameter, zero at first, that the gradient ∂L/∂s_0 of every stream trains.

    >>> from throughtime import cells, nn
    >>> nn.Recurrence(cells.LSTM(), 3, 5, initial=nn.Learnable()).initial.shape  # (S, L, H)
    torch.Size([2, 1, 5])
    """

    learnable = True

    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        S, L, _, H = shape
        return like.view(S, L, 1, H).expand(shape)
