"""The interface of a gradient method, and the carry from one call to the next.

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
from ..nn import Bidirectional


@final
@dataclass(frozen=True, eq=False)
class Carry:
    """The state that one call passes to the next. All of it is detached tensors, so that it can be saved.

    Attributes:
        state: the recurrent state after the last step, S tensors (L, B, H).
        kept: other tensors of the method, by name.
        made_by: the repr of the method that made ``kept``.

    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> loss, carry = tt.gradients.TruncatedBPTT(4, 8).accumulate(model, tt.Batch(text[:-1], text[1:]))
    >>> carry.state[0].shape, carry.made_by
    (torch.Size([1, 4, 8]), 'TruncatedBPTT(k1=4, k2=8, clip_adjoint=None)')
    >>> carry.kept["inputs"].shape  # the last k2 − k1 steps
    torch.Size([4, 4])
    """

    state: State
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    made_by: str = ""


class Outcome(NamedTuple):
    """The result of a call.

    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> outcome = tt.gradients.FullBPTT().accumulate(model, tt.Batch(text[:-1], text[1:]))
    >>> outcome.loss.shape, outcome.loss.requires_grad
    (torch.Size([]), False)
    """

    loss: Tensor  # () the batch's loss as the model defines it, detached
    carry: Carry  # for the next call on the same streams


class AbstractGradient(abc.ABC):
    """A way to find dL/dθ. A method is a frozen dataclass: its fields are its options, and its repr is its name in logs.

    ``agrees`` says how the result is related to the exact gradient. ``adds_over_streams`` says whether the gradient of a batch is the sum
    of those of its streams, each taken with ``batch.whole``, so that processes may share the streams. ``streams_axis`` is the axis of the
    streams in every tensor that the carry keeps, so that a saved carry can be dealt anew; None: there is no such axis.

    A method of your own defines ``accumulate``:

    >>> from dataclasses import dataclass
    >>> import throughtime as tt
    >>> @dataclass(frozen=True)
    ... class Doubled(AbstractGradient):  # twice the exact gradient
    ...     agrees = "approximately"
    ...     def accumulate(self, model, batch, carry=None):
    ...         state = starting_state(model, carried_state(carry, repr(self)), batch.fresh, batch.B)
    ...         hs, last = model.recurrence(model.enter(batch), state)  # stations ② and ③
    ...         loss = model.losses(hs, batch).sum() * model.scale(batch)  # station ④
    ...         (2 * loss).backward()
    ...         return Outcome(loss.detach(), Carry(tuple(s.detach() for s in last)))
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> loss, carry = Doubled().accumulate(model, tt.Batch(text[:-1], text[1:]))
    >>> loss, carry = Doubled().accumulate(model, tt.Batch(text[:-1], text[1:]), carry)
    """

    agrees: ClassVar[Literal["exactly", "within a window", "in expectation", "approximately"]]
    adds_over_streams: ClassVar[bool] = True
    streams_axis: ClassVar[int | None] = None

    @abc.abstractmethod
    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        """Add dL/dθ to every ``p.grad`` of the model.

        Args:
            model: the method uses its three stations one by one.
            batch: T steps of B streams. Streams marked ``fresh`` start from the model's initial state; no gradient crosses.
            carry: that of the last call on the same streams; a bare state; or None, if every stream starts anew.

        Returns:
            The loss, detached, and the carry for the next call.

        Raises:
            InputError: a carry of another batch size or of another method.
        """

    @property
    def carry_owner(self) -> str:
        """The name in ``made_by`` of its carries: its own repr, or that of the method that it wraps."""
        return repr(self)

    def logged(self, carry: Carry) -> Mapping[str, float]:
        """Numbers for the training log about the call that returned this carry, by name; all finite. None by default."""
        return {}


def carried_state(carry: Carry | State | None, owner: str) -> State | None:
    """The recurrent state in a carry.

    Args:
        carry: the argument of ``accumulate``.
        owner: the repr of the method that uses it.

    Raises:
        InputError: the carry holds tensors of another method, which would be lost.

    >>> carried_state(None, "FullBPTT()") is None
    True
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
        model: gives the initial state, with the graph of its parameters.
        state: the carried state, S tensors (L, B, H); None: every stream starts anew.
        fresh: (B,) True for streams that start anew; None: every stream continues.
        batch_size: B.

    Raises:
        NotImplementedError: a bidirectional model is to go on with a stream.

    >>> import throughtime as tt
    >>> model = tt.LanguageModel(9, hidden_size=8)
    >>> (h,) = starting_state(model, (torch.ones(1, 2, 8),), torch.tensor([True, False]), 2)
    >>> h[0, :, 0].tolist()  # the first stream starts from zeros, the second continues
    [0.0, 1.0]
    """
    if state is None:
        return model.initial_state(batch_size)
    if isinstance(model.recurrence, Bidirectional):
        _refuse_to_go_on(fresh)
    if fresh is None or not bool(fresh.any()) or state[0].shape[1] != fresh.shape[0]:
        return state  # the recurrence raises an error for a carry of another batch size
    cut = fresh.view(1, -1, 1)
    return tuple(torch.where(cut, new, old) for new, old in zip(model.initial_state(batch_size), state, strict=True))


def _refuse_to_go_on(fresh: Tensor | None) -> None:
    """A sequence in two directions is read as a whole, or not at all."""
    if fresh is None or not bool(fresh.all()):
        raise NotImplementedError(
            "a bidirectional model is to go on with a sequence that began earlier; its second direction begins at the sequence's end, so "
            "that whole sequences are needed. Use FullBPTT(), or TruncatedBPTT(k) with k at least as long as the sequences."
        )
