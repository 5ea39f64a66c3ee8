"""How often the whole state is saved, as it is typed: 500steps, 30s, 10m, 1h, or steps and a time, 500steps,10m."""

import math
import re
from dataclasses import dataclass
from typing import final

from ... import _numbers
from ..._errors import InputError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}  # seconds


@final
@dataclass(frozen=True)
class SaveEvery:
    """Steps or seconds between two saves, or both, whichever ends first; what is not given is None.

    Attributes:
        steps: the state is saved after every step that this divides.
        seconds: the state is saved after the first step that ends so long after the last save; 0: after every step.
    """

    steps: int | None
    seconds: float | None

    @classmethod
    def of(cls, given: str | float) -> "SaveEvery":
        """Numbers with units; a bare number means seconds, which it did when there was no other unit.

        >>> SaveEvery.of("500steps"), SaveEvery.of("10m"), SaveEvery.of(2.5)
        (SaveEvery(steps=500, seconds=None), SaveEvery(steps=None, seconds=600.0), SaveEvery(steps=None, seconds=2.5))
        >>> SaveEvery.of("500steps,10m")
        SaveEvery(steps=500, seconds=600.0)

        Raises:
            InputError: no number, a negative one, another unit, or two numbers of steps or of time.
        """
        if not isinstance(given, str):
            return cls(None, _numbers.at_least("`save_every`", given, 0))
        found = [_interval(given, part.strip()) for part in given.split(",")]
        steps, seconds = [n for n, _ in found if n is not None], [s for _, s in found if s is not None]
        if len(steps) > 1 or len(seconds) > 1:
            raise InputError(f"`save_every` is {given!r}; expected one number of steps and one time at most, such as 500steps,10m.")
        return cls(steps[0] if steps else None, seconds[0] if seconds else None)

    def after(self, step: int) -> bool:
        """Whether to save after this step, whatever the time."""
        return self.steps is not None and step % self.steps == 0

    def is_late(self, seconds: float) -> bool:
        """Whether to save so many seconds after the last save, whatever the step."""
        return self.seconds is not None and seconds >= self.seconds

    def __str__(self) -> str:
        """The interval in words.

        >>> str(SaveEvery.of("500steps")), str(SaveEvery.of("10m")), str(SaveEvery.of("500steps,10m"))
        ('500 steps', '600 s', '500 steps or 600 s')
        """
        steps = [] if self.steps is None else [_numbers.counted(self.steps, "step")]
        return " or ".join(steps + ([] if self.seconds is None else [f"{self.seconds:g} s"]))


def _interval(given: str, part: str) -> tuple[int | None, float | None]:
    """Steps or seconds."""
    found = re.fullmatch(r"(.+?) *(steps?|s|m|h)", part, re.ASCII)
    try:
        number = float(found[1]) if found else math.nan
    except ValueError:
        number = math.nan
    if found is None or not math.isfinite(number) or number < 0:
        raise InputError(
            f"`save_every` is {given!r}; expected steps, seconds, minutes or hours, such as 500steps, 30s, 10m, 1h or 500steps,10m."
        )
    if found[2] in _UNITS:
        return None, number * _UNITS[found[2]]
    if not number.is_integer() or number < 1:
        raise InputError(f"`save_every` is {given!r}; expected a whole number of steps, 1 or more.")
    return int(number), None


def typed(word: str) -> str | float:
    """What a word of the shell says; a bare number stays one."""
    try:
        return float(word)
    except ValueError:
        return word
