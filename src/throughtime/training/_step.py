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
from ._diagnose import first_non_finite


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
) -> Step:
    """Find the gradient, clip it, take the optimiser's step.

    Raises:
        NonFinite: the loss or the gradient is; the weights are then still those before the step.
    """
    parameters = list(model.parameters())
    optimizer.zero_grad(set_to_none=True)
    loss, carry_next = gradient.accumulate(model, batch, carry)
    norm = clipped = global_norm(parameters)
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise NonFinite(first_non_finite(model, batch, carry))
    for clip in clips:
        clip(parameters, clipped)
        clipped = global_norm(parameters)
    if norm > 0 or batch.counted():  # a window without a loss, long before a sequence's only label, carries the state on and no more
        optimizer.step()
    return Step(float(loss), float(norm), bool(clipped < norm), carry_next)
