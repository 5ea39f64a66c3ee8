"""What the numbers say, as a reader meets it: a verdict, and what to try."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final


@final
@dataclass(frozen=True, eq=False)
class Advice:
    """One thing to try, and the measured numbers that speak for it.

    Attributes:
        about: what it changes.
        sentence: in words, the numbers in it.
        value: the number to set, where there is one: a window in steps, a norm, a bias.
        because: name of a measured quantity → its value.
    """

    about: Literal["window", "clip", "start", "gates", "regulariser", "precision", "nothing"]
    sentence: str
    value: float | None
    because: Mapping[str, float]


@final
@dataclass(frozen=True, eq=False)
class Verdict:
    """What the numbers say, in words.

    Attributes:
        state: "vanishing", "exploding" or "healthy".
        sentence: one sentence, the numbers in it.
        decay: the factor by which the profile changes at each step back, from the fit; 1 neither fades nor grows.
        r_squared: the fit's coefficient of determination in ln profile: 1 is a pure exponential. NaN with fewer than three lags.
        fit: first and last lag of the fit.
        horizon: the effective horizon: the least lag from which on the profile stays below 1 % of its greatest value, in steps; None:
            farther than was measured.
        half_lag: the least lag k such that the lags 0 … k hold half of the sum of the profile.
        advice: what to try, the most pressing first.
    """

    state: Literal["vanishing", "exploding", "healthy"]
    sentence: str
    decay: float
    r_squared: float
    fit: tuple[int, int]
    horizon: int | None
    half_lag: int
    advice: tuple[Advice, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.state}: {self.sentence}", *(f"  try {one.about}: {one.sentence}" for one in self.advice)])
