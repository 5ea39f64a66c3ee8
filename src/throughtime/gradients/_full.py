"""Full backpropagation through time (Werbos 1990).

    λ_{T+1} = 0;    λ_t = ∂L_t/∂h_t + λ_{t+1} J_{t+1};    dL/dθ = Σ_t λ_t ∂f_t/∂θ

over all T steps of the batch at once. The recursion itself is in ``throughtime.kernels``.
"""

from dataclasses import dataclass
from typing import final

from .. import _check
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome, carried_state, starting_state
from ._stations import stack_of


@final
@dataclass(frozen=True)
class FullBPTT(AbstractGradient):
    """The exact gradient of the batch's loss. The state is carried on, detached.

    Use it unless the batch is too long for memory, which grows with T. ``CheckpointedBPTT`` finds the same gradient in less memory.

    Args:
        clip_adjoint: the most norm of each sample's λ_t of each layer; larger ones are scaled down at every time step. The gradient is
            then no longer exact. None: no clipping.

    Raises:
        InputError: a clip_adjoint that is not above 0.
        NotImplementedError: clip_adjoint for a recurrence that is not a stack of cells.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> loss, carry = FullBPTT().accumulate(model, batch)  # adds to every p.grad
    >>> loss, carry = FullBPTT().accumulate(model, batch, carry)  # the streams go on
    """

    clip_adjoint: float | None = None
    agrees = "exactly"

    def __post_init__(self) -> None:
        if self.clip_adjoint is not None:
            _check.above_zero("clip_adjoint", self.clip_adjoint, remedy="None switches it off.")

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        state = starting_state(model, carried_state(carry, repr(self)), batch.fresh, batch.B)
        if self.clip_adjoint is None:
            hs, last = model.recurrence(model.enter(batch), state)
        else:
            hs, last = stack_of(model, repr(self))(model.enter(batch), state, clip_adjoint=self.clip_adjoint)
        loss = model.losses(hs, batch).sum() * model.scale(batch)
        loss.backward()
        return Outcome(loss.detach(), Carry(tuple(s.detach() for s in last)))
