"""What the caller of ``gradient_flow`` may choose."""

from dataclasses import dataclass
from typing import final

from ... import _check
from ...gradients import AbstractGradient
from ._spectra import Spectra


@final
@dataclass(frozen=True)
class TrainedBy:
    """How the network is trained, so that its own bias can be measured.

    Args:
        method: how its gradient is found.
        steps: of one call, that is between two updates of the weights; the carry goes on from call to call. None: the whole batch.

    Raises:
        InputError: steps below 1.

    >>> from throughtime.gradients import TruncatedBPTT
    >>> TrainedBy(TruncatedBPTT(64), steps=64).steps
    64
    """

    method: AbstractGradient
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            _check.positive("TrainedBy.steps", self.steps)


@final
@dataclass(frozen=True)
class Asked:
    """The choices of ``gradient_flow``, under the same names."""

    max_lag: int | None
    step: int | None
    stream: int
    parameters: bool
    windows: bool
    tensors: tuple[str, ...]
    inputs: bool
    jacobians: Spectra | None
    gates: bool
    trained_by: TrainedBy | None
