"""A batch together with the steps before it that a method kept from earlier calls.

T time, kept steps included · B batch.
"""

from typing import final

import torch
from torch import Tensor

from .. import _check
from .._shapes import State
from ..data import Batch
from ._base import Carry, carried_state


@final
class History:
    """The kept steps and the batch after them, rows 0..T−1. Rows ``offset``..T−1 are the batch and have losses.

    Attributes:
        batch: the batch.
        inputs: (T, B) or (T, B, I), the inputs of all rows.
        fresh: (T, B) True where a stream starts anew.
        state: the state before row 0, S tensors (L, B, H); None: every stream starts anew there.

    >>> import throughtime as tt
    >>> method, model, text = tt.gradients.SlidingBPTT(3), tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> loss, carry = method.accumulate(model, batch)
    >>> history = tt.gradients.History.of(batch, carry, repr(method))
    >>> history.T, history.offset  # two kept steps before the twelve of the batch
    (14, 2)
    """

    def __init__(self, batch: Batch, inputs: Tensor, fresh: Tensor, state: State | None) -> None:
        self.batch, self.inputs, self.fresh, self.state = batch, inputs, fresh, state
        self.T, self.offset = inputs.shape[0], inputs.shape[0] - batch.T

    @classmethod
    def of(cls, batch: Batch, carry: Carry | State | None, owner: str) -> "History":
        """The steps in the carry, if it keeps any, and the batch.

        Args:
            batch: the batch.
            carry: the argument of ``accumulate``.
            owner: the repr of the method that uses it.

        Raises:
            InputError: a carry of another batch size, or of another method than ``owner``.
        """
        state = carried_state(carry, owner)
        fresh = torch.zeros(batch.T, batch.B, dtype=torch.bool, device=batch.inputs.device)
        fresh[0] = True if state is None else False if batch.fresh is None else batch.fresh
        if not isinstance(carry, Carry) or "fresh" not in carry.kept:
            return cls(batch, batch.inputs, fresh, state)
        kept = carry.kept
        if kept["fresh"].shape[1] != batch.B:
            _check.state(carry.state, [(s.shape[0], batch.B, s.shape[2]) for s in carry.state])
        past_state = tuple(kept[f"state.{i}"] for i in range(len(carry.state)))
        return cls(batch, torch.cat((kept["inputs"], batch.inputs)), torch.cat((kept["fresh"], fresh)), past_state)

    def steps(self, start: int, stop: int) -> Batch:
        """Rows start..stop−1 as a batch without targets, for station ②; with their mask, where none of them was kept."""
        mask = None if self.batch.mask is None or start < self.offset else self.batch.mask[start - self.offset : stop - self.offset]
        return Batch(self.inputs[start:stop], mask=mask)

    def losses_at(self, start: int, stop: int) -> Batch:
        """Rows start..stop−1 as a batch with targets, mask and weights; start is at least ``offset``."""
        return self.batch.steps(start - self.offset, stop - self.offset)

    def restarts(self) -> list[int]:
        """The rows at which some stream starts anew."""
        return self.fresh.any(1).nonzero().flatten().tolist()

    def kept_from(self, start: int, state: State) -> dict[str, Tensor]:
        """The tensors that a carry keeps so that the next call can reach back to row ``start``; empty if start is T.

        Args:
            start: the first row to keep.
            state: the state before that row, S tensors (L, B, H).
        """
        if start == self.T:
            return {}
        states = {f"state.{i}": s.detach() for i, s in enumerate(state)}
        return {"inputs": self.inputs[start:].clone(), "fresh": self.fresh[start:].clone(), **states}
