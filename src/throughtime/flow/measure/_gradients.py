"""dL/dθ by a gradient method, found on the side: every ``p.grad`` stays as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..._check import NonFinite
from ...gradients import FullBPTT
from ...models import AbstractModel
from ._problem import Problem


def full_gradient(problem: Problem) -> dict[str, Tensor]:
    """dL/dθ by ``FullBPTT``, of every parameter that wants it.

    Raises:
        NonFinite: a part of it has grown beyond its type.
    """
    with gradients_aside(problem.model):
        FullBPTT().accumulate(problem.model, problem.batch, problem.state)
        found = gradients_of(problem.model)
    for name, g in found.items():
        if not torch.isfinite(g).all():
            raise NonFinite(
                f"the gradient of {name} is not finite: it has grown beyond {g.dtype} on its way back. Measure in float64, "
                "model.double(), or a shorter batch; parameters=False measures the adjoint map alone, which cannot overflow."
            )
    return found


def gradients_of(model: AbstractModel) -> dict[str, Tensor]:
    """Parameter name → what has gathered in its ``grad``, of those that want one."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters() if p.requires_grad}


@contextmanager
def gradients_aside(model: AbstractModel) -> Iterator[None]:
    """No gradient at first, and afterwards those that were there before."""
    stood = [p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    try:
        yield
    finally:
        for p, grad in zip(model.parameters(), stood, strict=True):
            p.grad = grad
