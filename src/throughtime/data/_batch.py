"""A batch: T steps of B streams, as data makes it and models read it.

T time · B batch · I input · V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from .. import _check
from .._check import InputError


@final
@dataclass(frozen=True, eq=False)
class Batch:
    """T steps of B streams, with their targets.

    Attributes:
        inputs: (T, B) vocabulary indices, or (T, B, I) real vectors or distributions.
        targets: (T, B) indices, or (T, B, V) real vectors or distributions. None: no loss can be computed, only outputs.
        mask: (T, B), False for padding, which has no loss and does not count. None: no padding.
        weights: (T, B), the weight of each step's loss; 0 means no loss. A 1 on the last row only makes a many-to-one task. None: ones.
        fresh: (B,), True for a stream that starts anew: its carried state is replaced by the initial one, and no gradient
            crosses. None: every stream continues.
        whole: how many losses count in the whole batch of which these streams are a part, if they are: a mean is over the whole then.

    Raises:
        InputError: T or B of 0, fields whose shapes do not match, a mask that is not bool, a field that is not a tensor.

    >>> text = torch.arange(8).view(4, 2)  # two streams
    >>> Batch(text[:-1], text[1:]).counted()
    6
    """

    inputs: Shaped[Tensor, "T B *I"]
    targets: Shaped[Tensor, "T B *V"] | None = None
    mask: Bool[Tensor, "T B"] | None = None
    weights: Float[Tensor, "T B"] | None = None
    fresh: Bool[Tensor, " B"] | None = None
    whole: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "whole" and (value is not None or name == "inputs"):
                _check.tensor(name, value)
        _check.flags("mask", self.mask)
        _check.flags("fresh", self.fresh)
        targets = self.inputs if self.targets is None else self.targets
        if self.inputs.ndim not in (2, 3) or 0 in self.inputs.shape or targets.shape[:2] != self.inputs.shape[:2]:
            raise InputError(
                f"inputs have shape {tuple(self.inputs.shape)} and targets {tuple(targets.shape)}; expected (T, B) or (T, B, I) with "
                "T and B at least 1, and the same T and B in both. Time comes first."
            )
        _check.per_step("mask", self.mask, self.T, self.B)
        _check.per_step("weights", self.weights, self.T, self.B)
        if self.fresh is not None and tuple(self.fresh.shape) != (self.B,):
            raise InputError(f"fresh has shape {tuple(self.fresh.shape)}; expected (B,) = ({self.B},), one flag a stream.")

    @property
    def T(self) -> int:
        return self.inputs.shape[0]

    @property
    def B(self) -> int:
        return self.inputs.shape[1]

    def known_targets(self) -> Shaped[Tensor, "T B *V"]:
        """The targets.

        Raises:
            InputError: the batch has no targets.
        """
        if self.targets is None:
            raise InputError("the batch has no targets, and a loss compares with them; expected Batch(inputs, targets).")
        return self.targets

    def counts(self) -> Bool[Tensor, "T B"]:
        """Which losses count: those of steps that are not padding and whose weight is not 0."""
        real = torch.ones(self.T, self.B, dtype=torch.bool, device=self.inputs.device) if self.mask is None else self.mask
        return real if self.weights is None else real & (self.weights != 0)

    def counted(self) -> int:
        """How many losses count."""
        return self.T * self.B if self.mask is None and self.weights is None else int(self.counts().sum())

    def steps(self, start: int, stop: int) -> "Batch":
        """Steps start..stop−1 of the same streams. ``fresh`` is kept only if start is 0."""
        cut = slice(start, stop)
        return replace(
            self,
            inputs=self.inputs[cut],
            targets=None if self.targets is None else self.targets[cut],
            mask=None if self.mask is None else self.mask[cut],
            weights=None if self.weights is None else self.weights[cut],
            fresh=self.fresh if start == 0 else None,
        )

    def streams(self, start: int, stop: int) -> "Batch":
        """Streams start..stop−1 of the same steps.

        >>> Batch(torch.arange(6).view(2, 3), fresh=torch.tensor([True, False, True])).streams(1, 3).inputs.tolist()
        [[1, 2], [4, 5]]
        """
        return self._each(lambda v: v[start:stop] if v.ndim == 1 else v[:, start:stop].contiguous())

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return self._each(lambda v: v.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(self, **{k: change(v) for k, v in vars(self).items() if isinstance(v, Tensor)})
