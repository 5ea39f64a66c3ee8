"""How the profile falls with the lag: its rate, its horizon, where half of it lies.

With p_k the profile, its lag k a mean over n_k losses:

    ln p_k ≈ a + k ln ρ,  k ≥ 1, least squares weighted by n_k          (1)     ρ the decay per step; R² the fit's quality
    horizon = least k such that p_j < 0.01 · max p for all j ≥ k        (2)

Lag 0 is left out of (1): there the readout alone speaks.

K lags.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

FADED = 0.01  # (2)


@final
@dataclass(frozen=True, eq=False)
class Shape:
    """A profile and what is read off it; see ``Verdict``."""

    profile: Float[Tensor, " K"]
    decay: float
    r_squared: float
    fit: tuple[int, int]
    horizon: int | None
    half_lag: int

    @classmethod
    def of(cls, profile: Tensor, counts: Tensor) -> "Shape":
        return cls(profile, *fit_decay(profile, counts), horizon(profile), half_lag(profile))


def fit_decay(profile: Tensor, counts: Tensor) -> tuple[float, float, tuple[int, int]]:
    """(1): ρ, R², first and last lag of the fit. NaN where fewer than two, or for R² three, lags have a profile above 0."""
    k = torch.arange(len(profile), dtype=torch.float64)
    usable = (k >= 1) & (profile > 0) & profile.isfinite()
    if int(usable.sum()) < 2:
        return math.nan, math.nan, (0, 0)
    k, y, w = k[usable], profile[usable].log(), counts[usable] / counts[usable].sum()
    dk, dy = k - (w * k).sum(), y - (w * y).sum()
    slope = float((w * dk * dy).sum() / (w * dk * dk).sum())
    residual, spread = float((w * (dy - slope * dk).square()).sum()), float((w * dy.square()).sum())
    flat = spread <= 1e-24 * max(1.0, float(y.square().max()))  # a constant, up to rounding, is fitted as it is
    r_squared = math.nan if len(k) < 3 else 1.0 if flat else 1 - residual / spread
    return math.exp(slope), r_squared, (int(k[0]), int(k[-1]))


def horizon(profile: Tensor) -> int | None:
    """(2); None where the profile never stays below."""
    standing = ((profile >= FADED * profile.max()) & (profile > 0)).nonzero()
    least = int(standing[-1]) + 1 if len(standing) else 0
    return least if least < len(profile) else None


def half_lag(profile: Tensor) -> int:
    """The least lag up to which half of the profile lies; 0 where all of it is 0."""
    share = profile.cumsum(0) / profile.sum()
    reached = (share >= 0.5).nonzero()
    return int(reached[0]) if len(reached) else 0
