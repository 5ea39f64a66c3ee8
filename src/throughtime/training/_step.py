"""One step of training: the corridor ⑤ gradient → ⑥ clip → ⑦ optimiser, always in this order."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .._check import NonFinite
from .._shapes import State
from ..data import Batch
from ..gradients import AbstractGradient, Carry
from ..models import AbstractModel
from ._clip import AbstractClip, global_norm
from ._diagnose import first_in_forward, first_in_gradient
from ._ranks import ALONE, Ranks


class Step(NamedTuple):
    """What one step has to tell."""

    loss: float  # of the batch, as the model defines it
    norm: float  # of the gradient, before any clip
    clipped: bool  # whether a clip changed it
    carry: Carry


def step(
    model: AbstractModel,
    batch: Batch,
    carry: Carry | State | None,
    *,
    gradient: AbstractGradient,
    clips: Sequence[AbstractClip],
    optimizer: torch.optim.Optimizer,
    ranks: Ranks = ALONE,
) -> Step:
    """Find the gradient, clip it, take the optimiser's step.

    Args:
        model: its weights change.
        batch: this process's streams.
        carry: of the same streams.
        gradient: how dL/dθ is found.
        clips: in turn.
        optimizer: over the model's parameters.
        ranks: the processes that share the training. The gradient, its norm and the loss are those of all streams.

    Raises:
        NonFinite: the loss or the gradient is; the weights are then still those before the step.
    """
    parameters = list(model.parameters())
    optimizer.zero_grad(set_to_none=True)
    loss, carry_next = gradient.accumulate(model, ranks.part(batch), carry)
    loss = ranks.add(parameters, loss)
    norm = clipped = global_norm(parameters)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise NonFinite(ranks.any_word(first_in_forward(model, batch, carry)) or first_in_gradient(model, batch, carry))
    for clip in clips:
        clip(parameters, clipped)
        clipped = global_norm(parameters)
    if norm > 0 or ranks.counted(batch):  # a window without a loss, long before a sequence's only label, carries the state on and no more
        optimizer.step()
    return Step(float(loss), float(norm), bool(clipped < norm), carry_next)
