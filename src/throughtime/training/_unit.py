"""In what a task counts: the loss as its rows and pictures tell it, and what goes by in a second."""

import math
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Unit:
    """How the loss of a task is told.

    Attributes:
        score: the name of a validation's loss in metrics.jsonl.
        drawn: the name of the number that curves.png shows, in the rows of training and of validation.
        label: of its axis.
        factor: from the loss to that number.
        each: what is counted, in the plural.
        cost: the loss's unit in a sentence.
    """

    score: str = "loss"
    drawn: str = "loss"
    label: str = "loss"
    factor: float = 1.0
    each: str = "steps"
    cost: str = "a step"

    @property
    def speed(self) -> str:
        """The name of the speed in metrics.jsonl."""
        return f"{self.each}_per_second"

    def told(self, loss: float) -> str:
        """The loss in a line."""
        other = "" if self.drawn == "loss" else f"  {self.factor * loss:.3f} {self.label.replace(' per ', '/')}"
        return f"loss {loss:.3f}{other}"


BITS = Unit(score="nats", drawn="bits_per_token", label="bits per token", factor=1 / math.log(2), each="tokens", cost="nats a symbol")


def number(value: float | None, digits: int) -> str:
    """With so many digits after the point, or in short where it is too large for that; "?" where there is none."""
    if value is None:
        return "?"
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.3g}"
