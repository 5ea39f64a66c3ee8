"""What the numbers say, as a reader meets it: a verdict, and what to try."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

State = Literal["vanishing", "exploding", "healthy", "diverged", "saturated", "unknown"]
Reader = Literal["python", "shell"]


@final
@dataclass(frozen=True, eq=False)
class Advice:
    """One thing to try, and the measured numbers that speak for it.

    Attributes:
        about: what it changes.
        sentence: in words, the numbers in it.
        value: the number to set, where there is one: a window in steps, a norm, a bias.
        because: name of a measured quantity → its value, all of them finite.
        python: the objects that do it; empty where it is not a setting.
        flags: the same for a run of ``throughtime train``.
    """

    about: Literal["window", "clip", "start", "gates", "regulariser", "precision", "rate", "nothing"]
    sentence: str
    value: float | None
    because: Mapping[str, float]
    python: str = ""
    flags: str = ""

    def told(self, reader: Reader) -> str:
        """The sentence, and what to write.

        >>> Advice("clip", "Its norm is 3.", 3.0, {}, python="ClipNorm(3)", flags="--clip 3").told("shell")
        'Its norm is 3: --clip 3'
        """
        setting = self.python if reader == "python" else self.flags
        return f"{self.sentence.removesuffix('.')}: {setting}" if setting else self.sentence


@final
@dataclass(frozen=True, eq=False)
class Verdict:
    """What the numbers say, in words.

    Attributes:
        state: "exploding": the gradient grows on its way back. "diverged": the loss is above that of guessing. "saturated": units stand
            where their slope is next to 0, or a gate lets nothing in. "vanishing": the gradient fades within half of the lags measured,
            and, where the batch is a part of longer streams, within ten steps. "healthy": none of these. "unknown": the measurement
            cannot tell.
        sentence: one sentence, the numbers in it.
        decay: the factor by which the profile changes at each step back, from the fit; 1 neither fades nor grows.
        r_squared: the fit's coefficient of determination in ln profile: 1 is a pure exponential. NaN with fewer than three lags.
        fit: first and last lag of the fit.
        horizon: the effective horizon: the least lag from which on the profile stays below 1 % of its greatest value, in steps; None:
            farther than was measured.
        half_lag: the least lag k such that the lags 0 … k hold half of the sum of the profile.
        advice: what to try, the most pressing first.
    """

    state: State
    sentence: str
    decay: float
    r_squared: float
    fit: tuple[int, int]
    horizon: int | None
    half_lag: int
    advice: tuple[Advice, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.state}: {self.sentence}", *(f"  try {one.about}: {one.told('python')}" for one in self.advice)])
