"""Which tensor stopped being finite first, walking the stations once more in order."""

import torch
from torch import Tensor

from .._shapes import State
from ..data import Batch
from ..gradients import Carry
from ..models import AbstractModel
from ..nn import Recurrence


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
    state = state if state is not None else model.initial_state(batch.B)
    if (t := _first_step(xs)) is not None:
        return f"the embedded input, at time step {t} of {batch.T}"
    if isinstance(model.recurrence, Recurrence):
        trace = model.recurrence.trace(xs, state)
        steps = [(t, l) for l, layer in enumerate(trace.layers) if (t := _first_step(layer.run.hs)) is not None]
        if steps:
            t, l = min(steps)
            return f"the hidden state of layer {l}, at time step {t} of {batch.T}"
    hs, _ = model.recurrence(xs, state)
    for name, tensor in (("the hidden state", hs), ("the loss", model.losses(hs, batch))):
        if (t := _first_step(tensor)) is not None:
            return f"{name}, at time step {t} of {batch.T}"
    return None


def first_in_gradient(model: AbstractModel, batch: Batch, carry: Carry | State | None) -> str:
    """A few words where the forward pass is finite: the parameter, and the layer and time step at which the adjoints, going back, went."""
    bad = (name for name, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all())
    name = next(bad, None)
    if name is None:
        return "the sum over the losses"
    return f"the gradient of {name}{_adjoint(model, batch, carry)}"


def _adjoint(model: AbstractModel, batch: Batch, carry: Carry | State | None) -> str:
    """Where backpropagation through the whole batch stops being finite; empty where it does not, or the recurrence is another's."""
    if not isinstance(model.recurrence, Recurrence):
        return ""
    state = carry.state if isinstance(carry, Carry) else carry
    with torch.no_grad():
        xs, before = model.embed(batch), state if state is not None else model.initial_state(batch.B)
        trace = model.recurrence.trace(xs, before)
    dhs = model.loss_and_adjoint(trace.hs, batch)[1]
    with torch.no_grad():
        found = [(t, l) for l, dwx in enumerate(trace.input_half_adjoints(dhs)) if (t := _first_step(dwx.flip(0))) is not None]
    if not found:
        return ""
    t, l = min(found, key=lambda at: (at[0], -at[1]))  # backwards in time, from the top layer down
    return f", whose adjoint went in layer {l} at time step {batch.T - 1 - t} of {batch.T}, going back,"


def _first_step(tensor: Tensor) -> int | None:
    """The first t of a (T, …) tensor with a number that is not finite."""
    bad = ~torch.isfinite(tensor).flatten(1).all(1)
    return int(bad.nonzero()[0]) if bad.any() else None
