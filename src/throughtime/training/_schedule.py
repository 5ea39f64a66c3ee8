"""The learning rate as a function of where training stands, and of nothing else: a resumed run finds the same one."""

import math

from .options import OptimiserOptions

_FLOOR = 0.01  # of the rate, at the end of the linear and cosine schedules


def learning_rate(options: OptimiserOptions, *, step: int, epoch: float, progress: float) -> float:
    """The rate of the step after ``step`` steps.

    Args:
        options: the schedule and its numbers.
        step: steps done.
        epoch: passes over the text done, with their fraction.
        progress: how much of the budget is spent, in [0, 1].
    """
    warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    match options.schedule:
        case "constant":
            factor = 1.0
        case "linear":
            factor = 1 - (1 - _FLOOR) * progress
        case "cosine":
            factor = _FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * progress)) / 2
        case "exponential":
            factor = options.decay ** max(0, int(epoch) + 1 - options.decay_after)
    return options.rate * warm * factor
