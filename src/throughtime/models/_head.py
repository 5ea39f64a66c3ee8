"""Station ④: a linear map, an output function, a loss.

    o_t = V h_t + c     (1)         ŷ_t = f(o_t)    (2)         ℓ_t = ℓ(ŷ_t, y_t)   (3)

T time · B batch · H hidden · V outputs.
"""

from typing import final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .. import _check
from ..kernels import get_kernels, linear_cross_entropy, logits_memory
from ._losses import AbstractLoss, CrossEntropy, Output, Softmax


@final
class Head(nn.Module):
    """A linear head with the output function ``output`` and the loss ``loss``.

    Args:
        hidden_size: H.
        size: V, the number of outputs.
        bias: whether the head has the bias c.
        output: ``Softmax() SigmoidOutput() Linear()``, or any torch function of (…, V).
        loss: ``CrossEntropy() BinaryCrossEntropy() SquaredError()``.

    The weight and the bias are initialised as those of ``torch.nn.Linear``.

    >>> head = Head(8, 65)
    >>> head.predict(torch.zeros(7, 4, 8)).sum(-1).mean().round().item()
    1.0
    """

    def __init__(
        self,
        hidden_size: int,
        size: int,
        *,
        bias: bool = True,
        output: Output = Softmax(),  # noqa: B008  a frozen dataclass
        loss: AbstractLoss = CrossEntropy(),  # noqa: B008  a frozen dataclass
    ) -> None:
        super().__init__()
        linear = nn.Linear(_check.positive("hidden_size", hidden_size), _check.positive("output size", size), bias=bias)
        self.weight, self.bias = linear.weight, linear.bias
        self.output, self.loss = output, loss

    def forward(self, hs: Float[Tensor, "*T H"]) -> Float[Tensor, "*T V"]:
        """o = V h + c, before the output function."""
        return nn.functional.linear(hs, self.weight, self.bias)  # (1)

    def predict(self, hs: Float[Tensor, "*T H"]) -> Float[Tensor, "*T V"]:
        """ŷ = f(o)."""
        return self.output(self(hs))  # (2)

    def losses(self, hs: Float[Tensor, "T B H"], targets: Shaped[Tensor, "T B *V"]) -> Float[Tensor, "T B"]:
        """The loss of every step, without mask and weights."""
        if self._is_softmax_over_indices(targets) and get_kernels() == "fast":
            _check.indices("targets", targets, self.weight.shape[0])
            rows = linear_cross_entropy(hs.flatten(0, 1), self.weight, self.bias, targets.flatten().long())
            return rows.view(targets.shape)  # (1)–(3) in one
        return self.loss.per_step(self(hs), targets, self.output)  # (3)

    def memory_use(self, rows: int) -> int:
        """The most numbers that the losses of ``rows`` rows and their gradient hold, in addition to hs. Softmax: if targets are indices."""
        if self._is_softmax() and get_kernels() == "fast":
            return logits_memory(rows, self.weight.shape[0])
        return 4 * rows * self.weight.shape[0]  # o, ŷ, and the gradient of each

    def _is_softmax(self) -> bool:
        return isinstance(self.loss, CrossEntropy) and isinstance(self.output, Softmax)

    def _is_softmax_over_indices(self, targets: Tensor) -> bool:
        return self._is_softmax() and not targets.is_floating_point()

    def tie(self, weight: nn.Parameter) -> None:
        """Use an embedding's table (V, H) as the head's weight too (Press & Wolf 2017). The table is scaled by 1/√H in place."""
        if weight.shape != self.weight.shape:
            raise _check.InputError(
                f"tied weights need an embedding as wide as the hidden state; got {weight.shape[1]} and {self.weight.shape[1]}. "
                "Make the two equal, or do not tie."
            )
        with torch.no_grad():
            weight.mul_(weight.shape[1] ** -0.5)
        self.weight = weight
