"""Losses of real numbers: how far a forecast is from what came, with an interval where the loss has one.

o is the head's output (T, B, n V): n numbers for each of the V values that are predicted, number by number. y (T, B, V) are the values.
A NaN in y is a value that nobody knows. It has no loss and no gradient.

    absolute    |y − o|                                                                       (1)
    Huber       e²/2 if |e| ≤ δ, else δ (|e| − δ/2);  e = y − o                               (2)
    Gaussian    ((y − μ)/σ)²/2 + ln σ + ln(2π)/2;  μ = o_1, σ = softplus(o_2) + ε             (3)
    quantiles   Σ_i max(q_i e_i, (q_i − 1) e_i);  e_i = y − o_i                               (4)    (Koenker & Bassett 1978)

T time · B batch · V values.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, final, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from .. import _check
from .._check import InputError
from ._losses import AbstractLoss, Output

_LEAST_SIGMA = 1e-3  # ε, in the units of the targets


class AbstractRegression(AbstractLoss):
    """A loss of real values, some of which may be missing.

    Attributes:
        factor: of the sum over the V values of a step; 1/V makes it their mean.
    """

    factor: float

    @property
    def outputs(self) -> int:
        """n, the numbers that the head gives for each value."""
        return 1

    @abc.abstractmethod
    def of_values(self, o: Float[Tensor, "T B n V"], y: Float[Tensor, "T B V"]) -> Float[Tensor, "T B V"]:
        """The loss of each value."""

    def point(self, o: Float[Tensor, "*T N"]) -> Float[Tensor, "*T V"]:
        """The forecast: the number that the loss draws the output to."""
        return self._numbers(o)[..., 0, :]

    def interval(self, o: Float[Tensor, "*T N"], level: float) -> tuple[Float[Tensor, "*T V"], Float[Tensor, "*T V"]] | None:
        """Where a value lies with probability ``level``; None: the loss says nothing of it."""
        return None

    def value_at(self, o: Float[Tensor, "*T N"], u: Float[Tensor, "*T V"]) -> Float[Tensor, "*T V"] | None:
        """The value below which what comes lies with probability u; None: the loss gives no distribution."""
        return None

    def probability(self, o: Float[Tensor, "*T N"], y: Float[Tensor, "*T V"]) -> Float[Tensor, "*T V"] | None:
        """The probability of less than y, the inverse of ``value_at``; NaN where y is; None: the loss gives no distribution."""
        return None

    def per_step(self, o: Float[Tensor, "T B N"], targets: Shaped[Tensor, "T B *V"], output: Output) -> Float[Tensor, "T B"]:
        if o.shape[:2] != targets.shape[:2] or targets.ndim != 3 or o.shape[2] != self.outputs * targets.shape[2]:
            raise InputError(
                f"targets have shape {tuple(targets.shape)} and the head gives {tuple(o.shape)}; expected (T, B, V) with "
                f"{self.outputs} outputs for each of the V values."
            )
        known = ~targets.isnan()
        y = torch.where(known, targets, 0).to(o)
        return self.factor * self.of_values(self._numbers(output(o)), y).where(known, 0).sum(-1)

    def _numbers(self, o: Tensor) -> Tensor:
        return o.unflatten(-1, (self.outputs, -1))


@final
@dataclass(frozen=True)
class MeanSquaredError(AbstractRegression):
    """ℓ = factor · Σ_k (y_k − ŷ_k)² over the values that are known.

    >>> from throughtime.models import Linear
    >>> y = torch.tensor([[[3.0, torch.nan]]])
    >>> MeanSquaredError().per_step(torch.zeros(1, 1, 2), y, Linear()).item()
    9.0
    """

    factor: float = 1.0

    def of_values(self, o: Tensor, y: Tensor) -> Tensor:
        return (y - o[..., 0, :]).square()


@final
@dataclass(frozen=True)
class AbsoluteError(AbstractRegression):
    """Equation (1): the forecast is a median, and outliers weigh less.

    >>> from throughtime.models import Linear
    >>> AbsoluteError().per_step(torch.zeros(1, 1, 2), torch.tensor([[[3.0, -4.0]]]), Linear()).item()
    7.0
    """

    factor: float = 1.0

    def of_values(self, o: Tensor, y: Tensor) -> Tensor:
        return (y - o[..., 0, :]).abs()  # (1)


@final
@dataclass(frozen=True)
class Huber(AbstractRegression):
    """Equation (2): squared where the error is small, absolute where it is large.

    Args:
        delta: where the one becomes the other.

    >>> from throughtime.models import Linear
    >>> Huber(1.0).per_step(torch.zeros(1, 1, 2), torch.tensor([[[0.5, 3.0]]]), Linear()).item()  # 0.125 + 2.5
    2.625
    """

    delta: float = 1.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        _check.above_zero("delta", self.delta)

    def of_values(self, o: Tensor, y: Tensor) -> Tensor:
        return functional.huber_loss(o[..., 0, :], y, reduction="none", delta=self.delta)  # (2)


@final
@dataclass(frozen=True)
class GaussianLikelihood(AbstractRegression):
    """Equation (3), in nats: each value has a mean and a standard deviation of its own.

    >>> from throughtime.models import Linear
    >>> loss = GaussianLikelihood()
    >>> low, high = loss.interval(torch.zeros(1, 1, 2), 0.8)
    >>> round((high - low).item(), 3)  # 2 · 1.2816 · (ln 2 + ε)
    1.779
    """

    factor: float = 1.0

    @property
    def outputs(self) -> int:
        return 2

    def of_values(self, o: Tensor, y: Tensor) -> Tensor:
        mu, sigma = o[..., 0, :], self._sigma(o[..., 1, :])
        return ((y - mu) / sigma).square() / 2 + sigma.log() + math.log(2 * math.pi) / 2  # (3)

    def interval(self, o: Tensor, level: float) -> tuple[Tensor, Tensor]:
        mu, reach = self.point(o), NormalDist().inv_cdf((1 + level) / 2) * self.deviation(o)
        return mu - reach, mu + reach

    def deviation(self, o: Float[Tensor, "*T N"]) -> Float[Tensor, "*T V"]:
        """σ of each value."""
        return self._sigma(self._numbers(o)[..., 1, :])

    def value_at(self, o: Tensor, u: Tensor) -> Tensor:
        return self.point(o) + self.deviation(o) * torch.special.ndtri(u)

    def probability(self, o: Tensor, y: Tensor) -> Tensor:
        return torch.special.ndtr((y - self.point(o)) / self.deviation(o))

    def _sigma(self, o: Tensor) -> Tensor:
        return functional.softplus(o) + _LEAST_SIGMA


@final
@dataclass(frozen=True)
class Quantiles(AbstractRegression):
    """Equation (4): an output for each quantile; the middle one is the forecast.

    Args:
        levels: of the quantiles, in (0, 1), rising, an odd number of them.

    >>> from throughtime.models import Linear
    >>> Quantiles((0.1, 0.5, 0.9)).per_step(torch.zeros(1, 1, 3), torch.tensor([[[2.0]]]), Linear()).item()  # 2 (0.1 + 0.5 + 0.9)
    3.0
    """

    levels: tuple[float, ...] = (0.1, 0.5, 0.9)
    factor: float = 1.0

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if len(self.levels) % 2 == 0 or not rising or not all(0 < q < 1 for q in self.levels):
            raise InputError(f"levels are {self.levels}; expected an odd number of rising ones in (0, 1), such as (0.1, 0.5, 0.9).")

    @property
    def outputs(self) -> int:
        return len(self.levels)

    def of_values(self, o: Tensor, y: Tensor) -> Tensor:
        q = torch.tensor(self.levels, dtype=o.dtype, device=o.device).unsqueeze(1)
        error = y.unsqueeze(-2) - o
        return torch.maximum(q * error, (q - 1) * error).sum(-2)  # (4)

    def point(self, o: Tensor) -> Tensor:
        return self._sorted(o)[..., len(self.levels) // 2, :]

    def interval(self, o: Tensor, level: float) -> tuple[Tensor, Tensor] | None:
        """The two quantiles that enclose ``level``, where they are among ``levels``."""
        ends = [q for q in ((1 - level) / 2, (1 + level) / 2)]
        at = [i for end in ends for i, q in enumerate(self.levels) if abs(q - end) < 1e-6]
        return (self._sorted(o)[..., at[0], :], self._sorted(o)[..., at[1], :]) if len(at) == 2 else None

    def _sorted(self, o: Tensor) -> Tensor:
        """Quantiles that cross are put in order (Chernozhukov et al. 2010)."""
        return self._numbers(o).sort(-2).values


Regression = Literal["squared", "absolute", "huber", "gaussian", "quantiles"]


def regression(name: Regression, *, values: int = 1, coverage: float = 0.8) -> AbstractRegression:
    """A loss by its name, as a mean over the values of a step.

    Args:
        name: what it is called at the shell.
        values: V.
        coverage: for "quantiles", the probability between the outer two of them; the middle one is the median.

    Raises:
        InputError: another name.

    >>> regression("quantiles", values=2)
    Quantiles(levels=(0.1, 0.5, 0.9), factor=0.5)
    """
    _check.one_of("loss", name, get_args(Regression))
    low = round((1 - coverage) / 2, 12)
    losses: dict[str, Callable[[], AbstractRegression]] = {
        "squared": lambda: MeanSquaredError(1 / values),
        "absolute": lambda: AbsoluteError(1 / values),
        "huber": lambda: Huber(1.0, 1 / values),
        "gaussian": lambda: GaussianLikelihood(1 / values),
        "quantiles": lambda: Quantiles((low, 0.5, 1 - low), 1 / values),
    }
    return losses[name]()
