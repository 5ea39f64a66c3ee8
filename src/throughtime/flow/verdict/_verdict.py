"""From the numbers to words: does the gradient vanish or explode, how far does it reach, what would help.

With p_k the profile, its lag k a mean over n_k losses:

    ln p_k ≈ a + k ln ρ,  k ≥ 1, least squares weighted by n_k          (1)     ρ the decay per step; R² the fit's quality
    horizon = least k such that p_j < 0.01 · max p for all j ≥ k        (2)
    exploding: p somewhere exceeds 10 · p_0, and ρ > 1                  (3)
    vanishing: not (3), and the horizon lies within half of the lags    (4)

Lag 0 is left out of (1): there the readout alone speaks. Every piece of advice is made from the quantities that it carries.

K lags.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ...cells import Elman
from ..measure import Measurement
from ._words import Advice, Verdict

GROWTH = 10.0  # (3)
FADED = 0.01  # (2)

State = Literal["vanishing", "exploding", "healthy"]


def judge(found: Measurement) -> Verdict:
    """Everything measured, as a verdict."""
    profile = found.adjoint.profile
    decay, r_squared, fit = fit_decay(profile, found.adjoint.counts)
    reach = horizon(profile)
    state = _state(profile, decay, reach)
    advice = tuple(_Adviser(found, state, decay).advice())
    sentence = _sentence(state, profile, decay, r_squared, reach)
    return Verdict(state, sentence, decay, r_squared, fit, reach, _half_lag(profile), advice)


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
    standing = (profile >= FADED * profile.max()).nonzero()
    least = int(standing[-1]) + 1 if len(standing) else 0
    return least if least < len(profile) else None


def _half_lag(profile: Tensor) -> int:
    share = profile.cumsum(0) / profile.sum()
    reached = (share >= 0.5).nonzero()
    return int(reached[0]) if len(reached) else 0


def _state(profile: Tensor, decay: float, reach: int | None) -> State:
    if decay > 1 and float(profile.max()) > GROWTH * float(profile[0]):
        return "exploding"  # (3)
    return "vanishing" if reach is not None and reach <= len(profile) / 2 else "healthy"  # (4)


def _sentence(state: State, profile: Tensor, decay: float, r_squared: float, reach: int | None) -> str:
    K, last = len(profile), float(profile[-1] / profile[0])
    if math.isnan(decay):
        return f"There are too few lags to speak of ({K}): the gradient is {state} as far as it was measured."
    rate = f"×{decay:.4g} at each step back (R² {r_squared:.2f})"
    where = f"below 1 % of its greatest from lag {reach} on" if reach is not None else f"still above 1 % of its greatest at lag {K - 1}"
    if state == "exploding":
        peak = int(profile.argmax())
        return f"The gradient explodes: it changes {rate} and is {float(profile.max() / profile[0]):.3g} times that of lag 0 at lag {peak}."
    if state == "vanishing":
        return f"The gradient vanishes: it changes {rate} and is {where}, so losses cannot see farther than about {reach} steps."
    return f"The gradient is healthy: it changes {rate} and is {where}; at lag {K - 1} {last:.3g} of lag 0 arrives."


class _Adviser:
    """What the advice is made of, and the advice."""

    def __init__(self, found: Measurement, state: State, decay: float) -> None:
        self.cell, self.lags, self.bias, self.jacobians, self.gates = found.cell, found.lags, found.bias, found.jacobians, found.gates
        self.state, self.profile, self.decay = state, found.adjoint.profile, decay

    def advice(self) -> Iterator[Advice]:
        """The most pressing first."""
        yield from self._precision()
        if self.state == "exploding":
            yield from self._clip_growth()
        if self.state != "healthy":
            yield from self._saturation()
            yield from self._start()
            yield from self._memory()
            yield from self._regulariser()
        yield from self._window()
        if self.state != "exploding":
            yield from self._clip_outliers()

    def _precision(self) -> Iterator[Advice]:
        """The lags ought to add up to the gradient; in float32 they do to about 1e-6."""
        if self.lags.error > 1e-3:
            yield Advice(
                "precision",
                f"The lags add up to dL/dθ with a relative error of {self.lags.error:.2g} only: measure in float64 (model.double()); if it "
                "stays, the cell's step_vjp and its elementwise flag do not describe its step.",
                None,
                {"error": self.lags.error},
            )

    def _window(self) -> Iterator[Advice]:
        if self.bias is None:
            return
        tenth, hundredth = self.bias.least[0.1], self.bias.least[0.01]
        if hundredth is not None:
            found = f"A window of {hundredth} steps finds the gradient to 1 %, one of {tenth} to 10 %"
            yield Advice(
                "window",
                f"{found}: longer ones show this network nothing more, until it is mended."
                if self.state == "vanishing"
                else f"{found}: TruncatedBPTT({hundredth}) is enough.",
                float(hundredth),
                {"least_1_percent": float(hundredth), "least_10_percent": float(tenth or 0)},
            )
        else:
            at = len(self.bias.bias)
            yield Advice(
                "window",
                f"Windows up to {at} steps, all that were measured, still miss {float(self.bias.bias[-1]):.2g} of the gradient: "
                "use a longer one.",
                None,
                {"window": float(at), "bias": float(self.bias.bias[-1])},
            )

    def _clip_growth(self) -> Iterator[Advice]:
        """The norm of the part that has not yet grown."""
        grown = (self.profile > 2 * self.profile[0]).nonzero()
        lag = int(grown[0])
        if self.bias is None:
            return
        norm = float(self.bias.whole_norm[max(0, lag - 1)])
        yield Advice(
            "clip",
            f"The norm of dL/dθ is {self.lags.gradient_norm:.3g}, of which lags 0 to {lag - 1}, before it doubles, make {norm:.3g}: "
            f"clip there, ClipNorm({norm:.2g}).",
            norm,
            {"gradient_norm": self.lags.gradient_norm, "norm_before_growth": norm, "lag": float(lag)},
        )

    def _clip_outliers(self) -> Iterator[Advice]:
        norm = self.lags.gradient_norm
        if norm > 0:
            yield Advice(
                "clip",
                f"The norm of dL/dθ is {norm:.3g} here: ClipNorm({2 * norm:.2g}) leaves batches like this one alone and bounds the others.",
                2 * norm,
                {"gradient_norm": norm},
            )

    def _start(self) -> Iterator[Advice]:
        """Where R starts decides for the simple network; its radius says how far it is from 1."""
        if self.jacobians is None or not isinstance(self.cell, Elman):
            return
        radius = float(self.jacobians.radius.max())
        because = {"radius": radius, "decay": self.decay}
        if len(self.jacobians.exponents):
            because["exponent"] = float(self.jacobians.exponents[0])
        small = self.state == "vanishing" and radius < 0.95
        large = self.state == "exploding" and radius > 1.05
        if small or large:
            yield Advice(
                "start",
                f"The spectral radius of R is {radius:.3g}{', too small to hold a gradient' if small else ''}: start from "
                "nn.Orthogonal(), radius 1, or nn.IdentityMatrix() with Relu.",
                1.0,
                because,
            )

    def _memory(self) -> Iterator[Advice]:
        """How long units remember against how far they should."""
        K = len(self.profile)
        if self.state == "exploding" or K < 4:
            return
        if self.cell.memory_gate is None:
            yield Advice(
                "gates",
                f"The gradient changes by ×{self.decay:.3g} a step and {self.cell} has no gate that keeps a memory: GRU or LSTM with "
                f"nn.Chrono({K}) hold one for up to {K} steps.",
                float(K),
                {"decay": self.decay, "lags": float(K)},
            )
        elif self.gates is not None:
            lasting = float(self.gates.half_life[:, -1].flatten().quantile(0.9))
            yield Advice(
                "gates",
                f"Nine in ten units forget half within {lasting:.3g} steps, and there are {K} lags: start the memory gate's bias with "
                f"nn.Chrono({K}), or nn.ForgetBias({math.log(max(2, K - 1)):.2g}).",
                math.log(max(2, K - 1)),
                {"half_life_90": lasting, "lags": float(K)},
            )

    def _saturation(self) -> Iterator[Advice]:
        if self.gates is None:
            return
        known = self.gates.saturation[~self.gates.saturation.isnan()]
        share = float(known.mean()) if len(known) else 0.0
        if self.state == "vanishing" and share > 0.3:
            yield Advice(
                "start",
                f"Units and gates are saturated {100 * share:.0f} % of the time and pass next to no gradient: start from smaller weights, "
                "scale the inputs down, or lower the learning rate.",
                None,
                {"saturation": share},
            )

    def _regulariser(self) -> Iterator[Advice]:
        if isinstance(self.cell, Elman) and not math.isnan(self.decay):
            yield Advice(
                "regulariser",
                f"Pascanu's Ω asks for norms that neither fade nor grow from step to step; here they change by ×{self.decay:.3g}.",
                None,
                {"decay": self.decay},
            )
