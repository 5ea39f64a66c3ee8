"""What a method with a memory runs over: the steps that it kept from earlier calls, and the batch, end to end.

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
    """The kept steps and the batch, rows 0..T−1; the losses stand at rows ``offset``..T−1.

    Attributes:
        batch: the last of them, with the losses.
        inputs: (T, B) or (T, B, I).
        fresh: (T, B), where a stream begins anew.
        state: before row 0, S tensors (L, B, H); None: every stream begins anew there.
    """

    def __init__(self, batch: Batch, inputs: Tensor, fresh: Tensor, state: State | None) -> None:
        self.batch, self.inputs, self.fresh, self.state = batch, inputs, fresh, state
        self.T, self.offset = inputs.shape[0], inputs.shape[0] - batch.T

    @classmethod
    def of(cls, batch: Batch, carry: Carry | State | None, owner: str) -> "History":
        """What stands in the carry, which may keep no steps, and the batch after it.

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
        """Rows start..stop−1 as a batch without targets, for the stations that read inputs alone."""
        return Batch(self.inputs[start:stop])

    def losses_at(self, start: int, stop: int) -> Batch:
        """Rows start..stop−1, none before ``offset``, with all that their losses need."""
        return self.batch.steps(start - self.offset, stop - self.offset)

    def restarts(self) -> list[int]:
        """The rows at which some stream begins anew."""
        return self.fresh.any(1).nonzero().flatten().tolist()

    def kept_from(self, start: int, entering: State) -> dict[str, Tensor]:
        """What a carry keeps for the next call to reach back to row ``start``, which that state enters; nothing where that is the end."""
        if start == self.T:
            return {}
        states = {f"state.{i}": s.detach() for i, s in enumerate(entering)}
        return {"inputs": self.inputs[start:].clone(), "fresh": self.fresh[start:].clone(), **states}
