"""Clipping the gradient between backward and step. Clipping at each time step is the gradient method's, inside the recursion."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from .. import _check


class AbstractClip(abc.ABC):
    """Changes gradients in place."""

    @abc.abstractmethod
    def __call__(self, parameters: Sequence[nn.Parameter], norm: Tensor) -> None:
        """Clip; ``norm`` () is the global norm of the gradients as they are now."""


@final
@dataclass(frozen=True)
class ClipNorm(AbstractClip):
    """g ← g · min(1, max_norm / (‖g‖ + 1e-6)), ‖g‖ over all parameters together (Pascanu et al. 2013; as torch)."""

    max_norm: float

    def __post_init__(self) -> None:
        _check.above_zero("max_norm", self.max_norm)

    def __call__(self, parameters: Sequence[nn.Parameter], norm: Tensor) -> None:
        nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)


@final
@dataclass(frozen=True)
class ClipValue(AbstractClip):
    """Each element of the gradient clamped to [−limit, limit]."""

    limit: float

    def __post_init__(self) -> None:
        _check.above_zero("limit", self.limit)

    def __call__(self, parameters: Sequence[nn.Parameter], norm: Tensor) -> None:
        nn.utils.clip_grad_value_(parameters, self.limit)


def global_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """() ‖g‖ over all parameters together."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
