"""Output functions ŷ = f(o) and losses ℓ(ŷ, y), one number for each step and stream.

T time · B batch · V outputs. Losses are summed over the V outputs of a step, never averaged over them.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from .. import _check
from .._check import InputError

Output = Callable[[Tensor], Tensor]  # any torch function of the whole vector o_t (its last axis); autograd takes its full Jacobian


@final
@dataclass(frozen=True)
class Softmax:
    """ŷ = softmax(o). With ``CrossEntropy`` the two run as one stable operation, whose gradient in o is ŷ − y.

    >>> Softmax()(torch.zeros(1, 1, 4)).tolist()
    [[[0.25, 0.25, 0.25, 0.25]]]
    """

    def __call__(self, o: Tensor) -> Tensor:
        return torch.softmax(o, -1)


@final
@dataclass(frozen=True)
class SigmoidOutput:
    """ŷ = σ(o), elementwise. With ``BinaryCrossEntropy`` the two run as one stable operation.

    >>> SigmoidOutput()(torch.zeros(1, 1, 3)).tolist()
    [[[0.5, 0.5, 0.5]]]
    """

    def __call__(self, o: Tensor) -> Tensor:
        return torch.sigmoid(o)


@final
@dataclass(frozen=True)
class Linear:
    """ŷ = o, for real targets.

    >>> Linear()(torch.tensor([[[-1.5, 2.0]]])).tolist()
    [[[-1.5, 2.0]]]
    """

    def __call__(self, o: Tensor) -> Tensor:
        return o


class AbstractLoss(abc.ABC):
    """ℓ_t, from the pre-output o_t, the output function and the target.

    >>> class AbsoluteError(AbstractLoss):
    ...     def per_step(self, o, targets, output):
    ...         return (targets - output(o)).abs().sum(-1)
    >>> from throughtime.models import Head
    >>> head = Head(8, 2, output=Linear(), loss=AbsoluteError())
    >>> head.losses(torch.zeros(7, 4, 8), torch.zeros(7, 4, 2)).shape
    torch.Size([7, 4])
    """

    @abc.abstractmethod
    def per_step(self, o: Float[Tensor, "T B V"], targets: Shaped[Tensor, "T B *V"], output: Output) -> Float[Tensor, "T B"]:
        """The loss of every step, without mask and weights.

        Args:
            o: pre-outputs.
            targets: (T, B) indices, or (T, B, V).
            output: the output function, ŷ = output(o).

        Raises:
            InputError: targets of a shape or range that the loss does not accept.
        """


@final
@dataclass(frozen=True)
class CrossEntropy(AbstractLoss):
    """ℓ = −Σ_k y_k ln ŷ_k in nats; y an index (T, B) or a distribution (T, B, V).

    >>> loss = CrossEntropy().per_step(torch.zeros(1, 1, 4), torch.tensor([[2]]), Softmax())
    >>> round(loss.item(), 4)  # ln 4
    1.3863
    """

    def per_step(self, o: Float[Tensor, "T B V"], targets: Shaped[Tensor, "T B *V"], output: Output) -> Float[Tensor, "T B"]:
        if not targets.is_floating_point():
            _check.indices("targets", targets, o.shape[2])
            if isinstance(output, Softmax):
                flat = functional.cross_entropy(o.flatten(0, 1), targets.flatten().long(), reduction="none")
                return flat.view(targets.shape)
            return -output(o).gather(2, targets.long().unsqueeze(2)).squeeze(2).log()
        _same_shape(o, targets, "a distribution")
        if isinstance(output, Softmax):
            return -(targets * torch.log_softmax(o, -1)).sum(-1)
        return -torch.special.xlogy(targets, output(o)).sum(-1)


@final
@dataclass(frozen=True)
class BinaryCrossEntropy(AbstractLoss):
    """ℓ = −Σ_k (y_k ln ŷ_k + (1 − y_k) ln(1 − ŷ_k)) in nats; y (T, B, V) in [0, 1].

    >>> loss = BinaryCrossEntropy().per_step(torch.zeros(1, 1, 3), torch.ones(1, 1, 3), SigmoidOutput())
    >>> round(loss.item(), 4)  # 3 ln 2
    2.0794
    """

    def per_step(self, o: Float[Tensor, "T B V"], targets: Shaped[Tensor, "T B *V"], output: Output) -> Float[Tensor, "T B"]:
        _same_shape(o, targets, "numbers in [0, 1]")
        if isinstance(output, SigmoidOutput):
            return functional.binary_cross_entropy_with_logits(o, targets.to(o), reduction="none").sum(-1)
        return functional.binary_cross_entropy(output(o), targets.to(o), reduction="none").sum(-1)


@final
@dataclass(frozen=True)
class SquaredError(AbstractLoss):
    """ℓ = factor · Σ_k (y_k − ŷ_k)²; y (T, B, V).

    Args:
        factor: 0.5 gives the halved form of many texts.

    >>> SquaredError(0.5).per_step(torch.zeros(1, 1, 2), torch.tensor([[[3.0, 4.0]]]), Linear()).item()
    12.5
    """

    factor: float = 1.0

    def per_step(self, o: Float[Tensor, "T B V"], targets: Shaped[Tensor, "T B *V"], output: Output) -> Float[Tensor, "T B"]:
        _same_shape(o, targets, "real vectors")
        return self.factor * (targets - output(o)).square().sum(-1)


def _same_shape(o: Tensor, targets: Tensor, kind: str) -> None:
    if targets.shape != o.shape:
        raise InputError(f"targets have shape {tuple(targets.shape)}; expected {kind} of the head's shape (T, B, V) = {tuple(o.shape)}.")
