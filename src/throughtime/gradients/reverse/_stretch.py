"""What a method with a memory runs over: the steps that it kept from earlier calls, and the batch, end to end.

T time, kept steps included · B batch.
"""

from typing import final

import torch
from torch import Tensor

from ... import _check
from ..._shapes import State
from ...data import Batch
from .._base import Carry


@final
class Stretch:
    """The kept history and the batch end to end, rows 0..T−1; the losses stand at rows ``offset``..T−1.

    Attributes:
        inputs: (T, B) or (T, B, I).
        fresh: (T, B), where a stream starts anew.
        state: before row 0; None: every stream starts anew there.
    """

    def __init__(self, batch: Batch, inputs: Tensor, fresh: Tensor, state: State | None) -> None:
        self.batch, self.inputs, self.fresh, self.state = batch, inputs, fresh, state
        self.T, self.offset = inputs.shape[0], inputs.shape[0] - batch.T

    @classmethod
    def of(cls, batch: Batch, carry: Carry | State | None, state: State | None) -> "Stretch":
        """What stands in the carry, which may keep no history, and the batch after it.

        Raises:
            InputError: a carry of another batch size.
        """
        fresh = torch.zeros(batch.T, batch.B, dtype=torch.bool, device=batch.inputs.device)
        fresh[0] = True if state is None else False if batch.fresh is None else batch.fresh
        if not isinstance(carry, Carry) or "fresh" not in carry.kept:
            return cls(batch, batch.inputs, fresh, state)
        kept = carry.kept
        if kept["fresh"].shape[1] != batch.B:
            _check.state(carry.state, [(s.shape[0], batch.B, s.shape[2]) for s in carry.state])
        past_state = tuple(kept[f"state.{i}"] for i in range(len(carry.state)))
        return cls(batch, torch.cat((kept["inputs"], batch.inputs)), torch.cat((kept["fresh"], fresh)), past_state)

    def history(self, start: int, entered: State | None) -> dict[str, Tensor]:
        """What the next call needs to reach back to row ``start``: nothing where that is the end."""
        return {} if entered is None else self.rows(start, self.T, entered)

    def rows(self, start: int, stop: int, entered: State) -> dict[str, Tensor]:
        """Rows start..stop−1 as a carry keeps them, with the state before them; nothing where there are none."""
        if start == stop:
            return {}
        states = {f"state.{i}": s.detach() for i, s in enumerate(entered)}
        return {"inputs": self.inputs[start:stop].clone(), "fresh": self.fresh[start:stop].clone(), **states}
