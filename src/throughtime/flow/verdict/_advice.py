"""What to try, made of measured numbers that are finite, and told in objects for Python and in flags for the shell.

Advice on windows, clips and starts is made of the gradient by lag: it is given only where the lags add up to the whole.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from ...cells import Elman
from ..measure import BiasCurve, Measurement, WindowBias
from ._shape import Shape
from ._state import Saturation
from ._words import Advice, State


@final
@dataclass(frozen=True, eq=False)
class Findings:
    """What advice is made of."""

    found: Measurement
    shape: Shape
    state: State
    saturation: Saturation | None

    @property
    def K(self) -> int:
        return len(self.shape.profile)


_LARGE = 100.0  # a gradient's norm beyond it is no healthy one


def advice_on(findings: Findings) -> Iterator[Advice]:
    """The most pressing first; none from a number that is not finite."""
    for make in _ABOUT[findings.state]:
        advice = make(findings)
        if advice is not None and all(map(math.isfinite, (advice.value or 0.0, *advice.because.values()))):
            yield advice


def _precision(at: Findings) -> Advice | None:
    """In float64 the lags add up to about 1e-15, unless the cell says something of itself that is not so."""
    error = at.found.lags.error
    if at.found.lags.closes:
        return None
    because = {"error": error} if math.isfinite(error) else {}
    return Advice(
        "precision",
        "In float64 the lags ought to add up. Either the network is so chaotic that rounding alone decides its states (measure a shorter "
        "batch), or the cell's step_vjp and its elementwise flag do not describe its step.",
        None,
        because,
    )


def _rate(at: Findings) -> Advice | None:
    found = at.found
    if found.guess is None:
        return None
    return Advice(
        "rate",
        f"The loss is {found.loss:.3g}, and a guess costs {found.guess:.3g}: go back to weights from before, and train on with a tenth of "
        "the learning rate and gradients clipped.",
        None,
        {"loss": found.loss, "guess": found.guess},
        python="training.ClipNorm(1.0)",
        flags="--clip 1, and --lr a tenth of what it was",
    )


def _clip_growth(at: Findings) -> Advice | None:
    """The norm of the part that has not yet grown."""
    bias, p = at.found.bias, at.shape.profile
    grown = (p > 2 * p[0]).nonzero()
    if bias is None or not len(grown):
        return _clip_blindly(at)
    lag = int(grown[0])
    norm, whole = float(bias.whole_norm[max(0, lag - 1)]), at.found.lags.gradient_norm
    if not 0 < norm < whole or norm > _LARGE:
        return _clip_blindly(at)
    return Advice(
        "clip",
        f"The norm of dL/dθ is {whole:.3g}, of which lags 0 to {lag - 1}, before it doubles, make {norm:.3g}: clip there, so that no step "
        "throws the weights out.",
        norm,
        {"gradient_norm": whole, "norm_before_growth": norm, "lag": float(lag)},
        python=f"training.ClipNorm({norm:.2g})",
        flags=f"--clip {norm:.2g}",
    )


def _clip_blindly(at: Findings) -> Advice:
    """Where no part of the gradient says how large a healthy one is."""
    return Advice(
        "clip",
        "Clip the gradient's norm, so that no step throws the weights out; 1 is the usual choice.",
        1.0,
        {"decay": at.shape.decay} if math.isfinite(at.shape.decay) else {},
        python="training.ClipNorm(1.0)",
        flags="--clip 1",
    )


def _clip_outliers(at: Findings) -> Advice | None:
    norm = at.found.lags.gradient_norm
    if not 1e-6 < norm < math.inf:  # a gradient as small as rounding has no outliers worth a clip
        return None
    return Advice(
        "clip",
        f"The norm of dL/dθ is {norm:.3g} here: a clip at {2 * norm:.2g} leaves batches like this one alone and bounds the others.",
        2 * norm,
        {"gradient_norm": norm},
        python=f"training.ClipNorm({2 * norm:.2g})",
        flags=f"--clip {2 * norm:.2g}",
    )


def _start(at: Findings) -> Advice | None:
    """Where R starts decides for the simple network; its radius says how far it is from 1."""
    jacobians, cell = at.found.jacobians, at.found.cell
    if jacobians is None or not isinstance(cell, Elman) or not at.shape.profile.any():
        return None
    radius = float(jacobians.radius.max())
    because = {"radius": radius}
    if math.isfinite(at.shape.decay):
        because["decay"] = at.shape.decay
    if len(jacobians.exponents) and math.isfinite(float(jacobians.exponents[0])):
        because["exponent"] = float(jacobians.exponents[0])
    small = at.state == "vanishing" and radius < 0.95
    large = at.state == "exploding" and radius > 1.05
    if not (small or large):
        return None
    return Advice(
        "start",
        f"The spectral radius of R is {radius:.3g}{', too small to hold a gradient' if small else ''}: start from orthogonal weights, "
        "radius 1.",
        1.0,
        because,
        python="nn.Orthogonal()",
        flags="--init orthogonal",
    )


def _smaller_start(at: Findings) -> Advice | None:
    """For units that stand where their slope is 0."""
    saturation = at.saturation
    if saturation is None or saturation.kind == "stuck":
        return None
    return Advice(
        "start",
        "Start from smaller weights, scale the inputs to about 1, and if it came to this in training, lower the learning rate.",
        None,
        {"saturation": saturation.share},
        python="nn.TorchUniform()",
        flags="--init torch, which is the default, and --lr a tenth of what it was",
    )


def _any_start(at: Findings) -> Advice | None:
    """For a head that passes nothing back."""
    if at.shape.profile.any():
        return None
    return Advice(
        "start", "Start all weights at random, those of the head too.", None, {}, python="nn.TorchUniform()", flags="--init torch"
    )


def _memory(at: Findings) -> Advice | None:
    """How long units remember against how far they should."""
    K, cell, gates = at.K, at.found.cell, at.found.gates
    if K < 4 or not at.shape.profile.any():
        return None
    if cell.memory_gate is None:
        return Advice(
            "gates",
            f"This cell has no gate that keeps a memory; a GRU or an LSTM whose gates start spread over {K} steps holds one for as long.",
            float(K),
            {"lags": float(K), **({"decay": at.shape.decay} if math.isfinite(at.shape.decay) else {})},
            python=f"cells.GRU(), nn.Chrono({K})",
            flags=f"--cell gru --chrono {K}",
        )
    if gates is None:
        return None
    lasting = float(gates.half_life[:, -1].flatten().quantile(0.9))
    return Advice(
        "gates",
        f"Nine in ten units forget half within {lasting:.3g} steps, and there are {K} lags: start the gates spread over them.",
        math.log(max(2, K - 1)),
        {"half_life_90": lasting, "lags": float(K)},
        python=f"nn.Chrono({K})",
        flags=f"--chrono {K}",
    )


def _gated_cell(at: Findings) -> Advice | None:
    """For a cell whose gradient has no way around its saturated function."""
    return _memory(at) if at.found.cell.memory_gate is None else None


def _unstick(at: Findings) -> Advice | None:
    if at.saturation is None or at.saturation.kind != "stuck":
        return None
    return Advice(
        "gates",
        f"Start the gate that keeps memory less open, spread over the {at.K} lags.",
        math.log(max(2, at.K - 1)),
        {"stuck": at.saturation.share, "lags": float(at.K)},
        python=f"nn.Chrono({max(3, at.K)})",
        flags=f"--chrono {max(3, at.K)}",
    )


def _regulariser(at: Findings) -> Advice | None:
    if not isinstance(at.found.cell, Elman) or math.isnan(at.shape.decay):
        return None
    return Advice(
        "regulariser",
        f"Pascanu's Ω asks for norms that neither fade nor grow from step to step; here they change by ×{at.shape.decay:.3g}.",
        None,
        {"decay": at.shape.decay},
        python="gradients.WithOmega(method, 1.0)",
        flags="--omega 1",
    )


def _window(at: Findings) -> Advice | None:
    bias = at.found.bias
    if bias is None or at.K < 2:
        return None
    best = _cheapest(bias, len(at.found.losses))
    if best is None:
        return _no_window(at, bias)
    until = " (longer ones show this network nothing more, until it is mended)" if at.state in ("vanishing", "saturated") else ""
    because = {"window": float(best.k1), "bias": best.bias}
    because |= {
        f"least_{100 * level:.0f}_percent": float(least) for level, least in bias.least.items() if least is not None and level >= 0.01
    }
    because |= {} if bias.own is None else {"own_bias": bias.own.bias}
    sentence = f"{_own(bias)}{best.words} miss {_percent(best.bias)} of this batch's gradient{until}."
    return Advice("window", sentence, float(best.k1), because, python=best.python, flags=best.flags)


@final
@dataclass(frozen=True)
class _Form:
    """A form of ``TruncatedBPTT`` and what it misses."""

    k1: int
    k2: int
    bias: float

    @property
    def words(self) -> str:
        own = "Chunks" if self.k1 == self.k2 else "Windows"
        return f"{own} of {self.k2} step{'s' if self.k2 > 1 else ''}" + ("" if self.k1 == self.k2 else f", a new one every {self.k1},")

    @property
    def python(self) -> str:
        return f"gradients.TruncatedBPTT({self.k1})" if self.k1 == self.k2 else f"gradients.TruncatedBPTT({self.k1}, {self.k2})"

    @property
    def flags(self) -> str:
        method = "" if self.k1 == self.k2 else f"--gradient truncated:k1={self.k1},k2={self.k2} "
        return f"{method}--bptt {self.k1}"


def _cheapest(bias: BiasCurve, T: int) -> _Form | None:
    """Chunks that miss 1 % at most, unless overlapping windows do so at less than half of their length: those cost twice a step.

    What is told must hold beyond the batch, whose first window misses nothing: four chunks fit into it, or two windows, and every loss
    sees the lags that a sliding window needs.
    """
    chunked, overlapping, least = bias.chunked, bias.overlapping, bias.least[0.01]
    chunk = None if chunked is None else _first_good(chunked, 1, 1, T // 4)
    window = None if overlapping is None or least is None else _first_good(overlapping, 2, least, T // 2)
    if chunk is not None and (window is None or chunk.k1 <= window.k2):
        return chunk
    return window


def _first_good(curve: WindowBias, times: int, least: int, most: int) -> _Form | None:
    """The least k1 among the windows from ``least`` to ``most`` from which on the bias stays at 1 % or below."""
    good = curve.least[0.01]
    for k, bias in zip(map(int, curve.windows.tolist()), curve.bias.tolist(), strict=True):
        if good is not None and max(good, least) <= k <= most:
            return _Form(k, times * k, bias)
    return None


def _own(bias: BiasCurve) -> str:
    own = bias.own
    return "" if own is None else f"As it is trained, in {own.words}, it misses {_percent(own.bias)}. "


def _no_window(at: Findings, bias: BiasCurve) -> Advice:
    T = len(at.found.losses)
    return Advice(
        "window",
        f"{_own(bias)}These {T} steps are too few to promise a window that finds the gradient to 1 % on a longer stream. Measure a longer "
        "batch to see how far back it comes from, and train on windows as long as can be afforded.",
        None,
        {"steps": float(T)} | ({} if bias.own is None else {"own_bias": bias.own.bias}),
    )


def _percent(bias: float) -> str:
    return f"{100 * bias:.2g} %" if bias >= 1e-4 else "less than 0.01 %"


_ABOUT = {
    "unknown": (_precision,),
    "exploding": (_start, _clip_growth),  # the start mends it; a clip alone keeps the weights finite
    "diverged": (_rate,),
    "saturated": (_smaller_start, _unstick, _gated_cell, _window),
    "vanishing": (_any_start, _start, _memory, _regulariser, _window, _clip_outliers),
    "healthy": (_window, _clip_outliers),
}
