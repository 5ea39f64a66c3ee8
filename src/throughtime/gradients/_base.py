"""What a gradient method owes, and what it carries from one call to the next.

T time · B batch · H hidden · L layers · S states.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor

from .._check import InputError
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel


@final
@dataclass(frozen=True, eq=False)
class Carry:
    """What goes from one call to the next; all of it detached, all of it tensors, so that it can be saved.

    Attributes:
        state: the recurrent state after the last step, S tensors (L, B, H).
        kept: whatever else the method keeps, by name.
        made_by: the repr of the method that keeps it.
    """

    state: State
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    made_by: str = ""


class Outcome(NamedTuple):
    """What a call gives back."""

    loss: Tensor  # () the batch's loss as the model defines it, detached
    carry: Carry  # pass it to the next call on the same streams


class AbstractGradient(abc.ABC):
    """A way to find dL/dθ. A frozen dataclass: its fields are its options, its repr is its name in logs."""

    agrees: ClassVar[Literal["exactly", "within a window", "in expectation", "approximately"]]

    @abc.abstractmethod
    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        """Add dL/dθ to every ``p.grad`` of the model.

        Args:
            model: its three stations are used one by one.
            batch: T steps of B streams. Streams marked ``fresh`` start from the model's initial state; no gradient crosses.
            carry: the last call's, on the same streams; a bare state; or None, where every stream starts anew.

        Raises:
            InputError: a carry of another batch size or of another method.
        """

    @property
    def carry_owner(self) -> str:
        """The repr that its carries are marked with: its own, or that of the method inside."""
        return repr(self)

    def logged(self, carry: Carry) -> Mapping[str, float]:
        """What a report of training should tell of the call that gave this carry, by name; finite numbers only."""
        return {}


def carried_state(carry: Carry | State | None, owner: str) -> State | None:
    """The recurrent state in a carry.

    Args:
        carry: as ``accumulate`` was given it.
        owner: the repr of the method that asks.

    Raises:
        InputError: another method keeps things in it that would be lost.
    """
    if not isinstance(carry, Carry):
        return carry
    if carry.kept and carry.made_by != owner:
        raise InputError(
            f"the carry was made by {carry.made_by}, which keeps more than the state in it, and is given to {owner}; expected one of its "
            "own. Pass carry.state to go on from the state alone, or None to start afresh."
        )
    return carry.state


def starting_state(model: AbstractModel, state: State | None, fresh: Tensor | None, batch_size: int) -> State:
    """The state before the first step: the carried one, replaced by the model's initial one where a stream is fresh.

    Args:
        model: whose initial state it is, with the graph of what made it.
        state: carried, S tensors (L, B, H); None: every stream begins anew.
        fresh: (B,); None: every stream goes on.
        batch_size: B.
    """
    if state is None:
        return model.initial_state(batch_size)
    if fresh is None or not bool(fresh.any()) or state[0].shape[1] != fresh.shape[0]:
        return state  # a carry of another batch size goes on to the recurrence, whose check says so
    cut = fresh.view(1, -1, 1)
    return tuple(torch.where(cut, new, old) for new, old in zip(model.initial_state(batch_size), state, strict=True))
