"""The verdict: a state, a sentence, and advice."""

import math
from collections.abc import Callable

from ..measure import Measurement
from ._advice import Findings, advice_on
from ._shape import Shape
from ._state import Saturation, fades, saturation_of, state_of
from ._words import State, Verdict


def judge(found: Measurement, *, overflows: bool = False) -> Verdict:
    """Everything measured, as a verdict. ``overflows``: dL/dθ is beyond float64."""
    shape = Shape.of(found.adjoint.profile, found.adjoint.counts)
    saturation = saturation_of(found, shape)
    state = state_of(found, shape, saturation, overflows=overflows)
    advice = tuple(advice_on(Findings(found, shape, state, saturation)))
    sentence = _SENTENCES[state](found, shape, saturation)
    return Verdict(state, sentence, shape.decay, shape.r_squared, shape.fit, shape.horizon, shape.half_lag, advice)


def _unknown(found: Measurement, shape: Shape, _: Saturation | None) -> str:
    if not found.lags.closes:
        return (
            f"The parts by lag miss the whole gradient by {found.lags.error:.2g} of its norm, so the numbers below are not to be trusted."
            if math.isfinite(found.lags.error)
            else "The parts by lag do not add up to the whole gradient, so the numbers below are not to be trusted."
        )
    K = len(shape.profile)
    return f"There are too few lags to speak of ({K}): look at a longer batch, or at a loss that stands later in it."


def _exploding(found: Measurement, shape: Shape, _: Saturation | None) -> str:
    p, K = shape.profile, len(shape.profile)
    if math.isnan(shape.decay):
        return "The gradient explodes: it is beyond float64 after a step or two."
    peak = int(p.argmax())
    grown = f"The gradient explodes: it changes {_rate(shape)} and is {float(p.max() / p[0]):.3g} times that of lag 0 at lag {peak}"
    if math.isnan(found.lags.gradient_norm) and K < len(found.losses):
        return f"{grown}; farther back, and summed over all lags, it is beyond float64."
    return f"{grown}."


def _diverged(found: Measurement, shape: Shape, _: Saturation | None) -> str:
    assert found.guess is not None, "state_of has compared with it"
    return f"The network has diverged: its loss is {found.loss:.3g} where guessing costs {found.guess:.3g}. {_course(shape)}"


def _saturated(found: Measurement, shape: Shape, saturation: Saturation | None) -> str:
    assert saturation is not None, "state_of has looked at it"
    where = f" of layer {saturation.layer}" if found.adjoint.layers.shape[0] > 1 else ""
    share = f"{100 * saturation.share:.3g} %"
    what = {
        "dead": f"The units{where} are dead: {share} of the time they are off and pass no gradient.",
        "flat": f"The units{where} are saturated {share} of the time: they stand at the flat ends of their function and pass next to none.",
        "stuck": f"The memory gate{where} is stuck: {share} of the units keep all that they have and take in next to nothing.",
    }[saturation.kind]
    return f"{what} {_course(shape)}"


def _vanishing(found: Measurement, shape: Shape, _: Saturation | None) -> str:
    if not shape.profile.any():
        return "The gradient is 0 at every lag: no loss leans on any state, for the head passes nothing back."
    if math.isnan(shape.decay):
        return "The gradient vanishes at once: nothing of it is left beyond the first step back."
    beyond = _beyond(found, shape)
    return f"The gradient vanishes: it changes {_rate(shape)} and is {_where(shape)}{beyond}."


def _healthy(found: Measurement, shape: Shape, _: Saturation | None) -> str:
    if fades(shape):
        return f"The gradient is healthy for a stream: it changes {_rate(shape)} and is {_where(shape)}{_beyond(found, shape)}."
    K, last = len(shape.profile), float(shape.profile[-1] / shape.profile[0])
    return f"The gradient is healthy: it changes {_rate(shape)} and is {_where(shape)}; at lag {K - 1} {last:.3g} of lag 0 arrives."


_SENTENCES: dict[State, Callable[[Measurement, Shape, Saturation | None], str]] = {
    "unknown": _unknown,
    "exploding": _exploding,
    "diverged": _diverged,
    "saturated": _saturated,
    "vanishing": _vanishing,
    "healthy": _healthy,
}


def _course(shape: Shape) -> str:
    """How the gradient changes, where the state is about something else."""
    if not shape.profile.any():
        return "No gradient arrives at any lag."
    if math.isnan(shape.decay):
        return "No gradient arrives beyond the first step back." if len(shape.profile) > 2 else ""
    return f"The gradient changes {_rate(shape)} and is {_where(shape)}."


def _rate(shape: Shape) -> str:
    quality = "" if math.isnan(shape.r_squared) else f" (R² {shape.r_squared:.2f})"
    return f"×{shape.decay:.4g} at each step back{quality}"


def _where(shape: Shape) -> str:
    if shape.horizon is not None:
        return f"below 1 % of its greatest from lag {shape.horizon} on"
    return f"still above 1 % of its greatest at lag {len(shape.profile) - 1}"


def _beyond(found: Measurement, shape: Shape) -> str:
    """What the lags beyond the horizon still add to the weights' gradient: less each, but there are many."""
    if found.bias is None or shape.horizon is None or not 1 <= shape.horizon <= len(found.bias.bias):
        return ""
    missed = float(found.bias.bias[shape.horizon - 1])
    return f"; all that lies farther back makes {100 * missed:.2g} % of the weights' gradient"
