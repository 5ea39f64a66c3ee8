"""Which tensor stopped being finite first, walking the stations once more in order."""

import torch
from torch import Tensor

from .._shapes import State
from ..data import Batch
from ..gradients import Carry
from ..models import AbstractModel


@torch.no_grad()
def first_in_forward(model: AbstractModel, batch: Batch, carry: Carry | State | None) -> str | None:
    """A few words: the weight, state or station that went first, and at which time step of the batch; None: all are finite."""
    for name, p in model.named_parameters():
        if not torch.isfinite(p).all():
            return f"the weight {name}, before the step"
    state = carry.state if isinstance(carry, Carry) else carry
    if state is not None and not all(torch.isfinite(s).all() for s in state):
        return "the carried state, before the step"
    xs = model.embed(batch)
    hs, _ = model.recurrence(xs, state if state is not None else model.initial_state(batch.B))
    for name, tensor in (("the embedded input", xs), ("the hidden state", hs), ("the loss", model.losses(hs, batch))):
        if (t := _first_step(tensor)) is not None:
            return f"{name}, at time step {t} of {batch.T}"
    return None


def first_in_gradient(model: AbstractModel) -> str:
    """A few words where the forward pass is finite."""
    for name, p in model.named_parameters():
        if p.grad is not None and not torch.isfinite(p.grad).all():
            return f"the gradient of {name}"
    return "the sum over the losses"


def _first_step(tensor: Tensor) -> int | None:
    """The first t of a (T, …) tensor with a number that is not finite."""
    bad = ~torch.isfinite(tensor).flatten(1).all(1)
    return int(bad.nonzero()[0]) if bad.any() else None
