"""How long to train."""

import math
from dataclasses import dataclass
from typing import final

from ._state import Progress
from .options import LoopOptions


@final
@dataclass(frozen=True)
class Budget:
    """A number of steps, or of seconds."""

    steps: int | None
    seconds: float | None

    @classmethod
    def of(cls, options: LoopOptions, steps_an_epoch: int) -> "Budget":
        """10 epochs where nothing is asked for."""
        if options.minutes is not None:
            return cls(None, 60 * options.minutes)
        return cls(options.steps if options.steps is not None else (options.epochs or 10) * steps_an_epoch, None)

    def spent(self, progress: Progress) -> float:
        """The share that is spent; 1 or more: stop."""
        return progress.step / self.steps if self.steps is not None else progress.seconds / (self.seconds or math.inf)

    def seconds_left(self, progress: Progress) -> float:
        """As the past goes."""
        spent = self.spent(progress)
        return progress.seconds * (1 - spent) / spent if spent else math.inf
