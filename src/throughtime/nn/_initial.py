"""The initial state of a recurrence: the state before the first step.

L layers · B batch · H hidden · S states.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from .._check import InputError


class AbstractInitial(abc.ABC):
    """A rule that makes the initial state of a stack.

    If ``learnable`` is True, the stack has a parameter ``initial`` (S, L, H), which ``make`` receives as ``like``.

    >>> from throughtime import cells, nn
    >>> class Ones(AbstractInitial):
    ...     def make(self, shape, like):
    ...         return like.new_ones(shape)
    >>> (h,) = nn.Recurrence(cells.GRU(), 3, 5, initial=Ones()).initial_state(4)
    >>> h.shape, h.mean().item()  # (L, B, H)
    (torch.Size([1, 4, 5]), 1.0)
    """

    learnable: ClassVar[bool] = False

    @abc.abstractmethod
    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        """The states as one tensor (S, L, B, H) with the dtype and device of ``like``, which is the parameter if the rule is learnable."""


@final
@dataclass(frozen=True)
class Zeros(AbstractInitial):
    """All zeros, the usual choice and the default.

    >>> from throughtime import cells, nn
    >>> (h,) = nn.Recurrence(cells.GRU(), 3, 5, initial=Zeros()).initial_state(4)
    >>> h.abs().max().item()
    0.0
    """

    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        return like.new_zeros(shape)


@final
@dataclass(frozen=True)
class Random(AbstractInitial):
    """Normal with mean 0 and standard deviation ``std``. Each stream draws a new state when it starts, from torch's global generator.

    >>> from throughtime import cells, nn
    >>> stack = nn.Recurrence(cells.GRU(), 3, 5, initial=Random(std=0.1))
    >>> (first,), (second,) = stack.initial_state(4), stack.initial_state(4)
    >>> bool((first == second).any())
    False
    """

    std: float = 1.0

    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        return like.new_empty(shape).normal_(0.0, self.std)


@final
@dataclass(frozen=True, eq=False)
class Given(AbstractInitial):
    """A fixed state (S, L, H), the same for every stream.

    Raises:
        InputError: states of another shape than the stack's, when the stack is used.

    >>> import torch
    >>> from throughtime import cells, nn
    >>> h, c = nn.Recurrence(cells.LSTM(), 3, 5, initial=Given(torch.ones(2, 1, 5))).initial_state(4)
    >>> c.shape, c.mean().item()  # (L, B, H)
    (torch.Size([1, 4, 5]), 1.0)
    """

    states: Tensor

    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        S, L, _, H = shape
        if tuple(self.states.shape) != (S, L, H):
            raise InputError(f"Given(states) has shape {tuple(self.states.shape)}; expected (S, L, H) = ({S}, {L}, {H}).")
        return self.states.to(like).unsqueeze(2).expand(shape)


@final
@dataclass(frozen=True)
class Learnable(AbstractInitial):
    """A parameter, initially zero, trained by the gradient ∂L/∂s_0 of every stream.

    >>> from throughtime import cells, nn
    >>> nn.Recurrence(cells.LSTM(), 3, 5, initial=nn.Learnable()).initial.shape  # (S, L, H)
    torch.Size([2, 1, 5])
    """

    learnable = True

    def make(self, shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
        S, L, _, H = shape
        return like.view(S, L, 1, H).expand(shape)
