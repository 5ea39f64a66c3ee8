"""A look at the gradient's way through time now and then, so that one sees memory being learned.

Every N steps, on the first two streams of the batch that was just learned from, by ``throughtime.flow``: how much the losses lean on the
state k steps before, by lag k; how far that reaches; the greatest Lyapunov exponent. Nothing of the run is touched: not the weights, the
gradients, the carry or torch's generators. At 200 steps between two looks it costs about 2 % of the time (GRU of 256 units, 32 streams,
window 100: a look takes as long as four steps).
"""

import math
from dataclasses import dataclass
from typing import Any, final

import torch

from ..data import Batch
from ..flow import Spectra, gradient_flow
from ..gradients import Carry
from ..models import AbstractModel

_STREAMS = 2
_WHAT = Spectra(samples=0, spans=(), exponents=1, streams=_STREAMS)


@final
@dataclass(frozen=True)
class FlowRow:
    """One look.

    Attributes:
        step: after which it was taken.
        profile: mean over losses of ‖∂L_t/∂s_{t−k}‖ by lag k.
        horizon: the least lag from which on that stays below 1 % of its greatest; None: beyond the window.
        decay: the factor of the fitted profile at each step back.
        exponent: the greatest Lyapunov exponent, in nats per step.
    """

    step: int
    profile: tuple[float, ...]
    horizon: int | None
    decay: float
    exponent: float

    def as_dict(self) -> dict[str, Any]:
        """For metrics.jsonl, in 6 digits; what is not finite is null, as JSON has no word for it."""
        numbers = {"profile": [_rounded(x) for x in self.profile], "decay": _rounded(self.decay), "exponent": _rounded(self.exponent)}
        return {"kind": "flow", "step": self.step, "horizon": self.horizon, **numbers}

    def scalars(self) -> dict[str, float]:
        """For TensorBoard: the profile at lags 0, 1, 2, 4, 8, …; a horizon beyond the window as the window."""
        at = [k for k in (0, *(2**i for i in range(32))) if k < len(self.profile)]
        found = {f"profile/lag {k:04}": self.profile[k] for k in at}
        found |= {"horizon": float(len(self.profile) if self.horizon is None else self.horizon)}
        found |= {"decay": self.decay, "exponent": self.exponent}
        return {name: value for name, value in found.items() if math.isfinite(value)}


def measure_flow(model: AbstractModel, batch: Batch, carry: Carry | None, step: int) -> FlowRow:
    """Measure the batch's first streams, with the state that was carried in.

    Raises:
        NonFinite: a weight, a state or a loss is not a finite number.
    """
    state = None if carry is None else tuple(s[:, :_STREAMS] for s in carry.state)
    with torch.random.fork_rng(devices=[]):
        flow = gradient_flow(model, batch.streams(0, _STREAMS), carry=state, parameters=False, inputs=False, gates=False, jacobians=_WHAT)
    exponents = [] if flow.jacobians is None else flow.jacobians.exponents.tolist()
    verdict = flow.verdict
    return FlowRow(step, tuple(flow.adjoint.profile.tolist()), verdict.horizon, verdict.decay, exponents[0] if exponents else math.nan)


def _rounded(x: float) -> float | None:
    return float(f"{x:.6g}") if math.isfinite(x) else None
