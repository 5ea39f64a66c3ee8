"""A measurement of gradient flow as a matplotlib figure."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from .._base import AbstractFlow
from ..measure import BiasCurve, Gates, Jacobians
from ._json import chosen_window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe & Ito's, told apart by everyone
_DASHES = ("-", "--", "-.", ":")


def to_figure(flow: AbstractFlow) -> "Figure":
    """See ``Flow.plot``."""
    from matplotlib.figure import Figure  # a second to import: only where it is used

    panels = [_map, _profile, *([_lag_gradients] if len(flow.lags.total) and flow.lags.closes else [])]
    panels += [lambda axes, flow: _bias(axes, flow.bias, chosen_window(flow))] if flow.bias is not None and flow.lags.closes else []
    panels += [lambda axes, flow: _spectra(axes, flow.jacobians)] if flow.jacobians is not None else []
    panels += [lambda axes, flow: _gates(axes, flow.gates)] if flow.gates is not None else []
    figure = Figure(figsize=(15, 4.2 * -(-len(panels) // 3)), layout="constrained")
    grid = figure.subplots(-(-len(panels) // 3), 3, squeeze=False).ravel().tolist()
    for axes, draw in zip(grid, panels, strict=False):
        draw(axes, flow)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(panels) :]:
        axes.remove()
    verdict = flow.verdict
    figure.suptitle(f"{verdict.state}: {verdict.sentence}", fontsize=11, wrap=True)
    return figure


def _map(axes: "Axes", flow: AbstractFlow) -> None:
    from matplotlib.colors import LogNorm

    values = flow.adjoint.joint.clone()
    values[~(values > 0)] = torch.nan
    top = float(values.nan_to_num(0).max()) or 1.0
    low = max(float(values.nan_to_num(torch.inf).min()), top * 1e-10)
    shown = axes.imshow(
        values.T.numpy(), origin="lower", aspect="auto", interpolation="nearest", cmap="viridis", norm=LogNorm(min(low, top / 10), top)
    )
    axes.figure.colorbar(shown, ax=axes, label="‖∂L$_t$/∂s$_{t−k}$‖")
    axes.set(xlabel="step t", ylabel="lag k", title="which past each loss leans on")


def _profile(axes: "Axes", flow: AbstractFlow) -> None:
    lags, adjoint = torch.arange(flow.max_lag + 1), flow.adjoint
    for low, high, alpha in ((0, -1, 0.12), (1, -2, 0.2)):
        axes.fill_between(lags, adjoint.quantiles[low], adjoint.quantiles[high], color=_COLOURS[0], alpha=alpha, linewidth=0)
    axes.plot(lags, adjoint.profile, color=_COLOURS[0], label="mean over steps")
    first, last = flow.verdict.fit
    if math.isfinite(decay := flow.verdict.decay):
        k = lags[first : last + 1].double()
        there, slope = adjoint.profile[first : last + 1] > 0, math.log(decay)
        weights = adjoint.counts[first : last + 1][there]
        start = ((adjoint.profile[first : last + 1][there].log() - k[there] * slope) * weights).sum() / weights.sum()
        axes.plot(k, (start + k * slope).exp(), color=_COLOURS[1], linestyle="--", label=f"× {decay:.3g} a step")
    if flow.verdict.horizon is not None:
        axes.axvline(flow.verdict.horizon, color="gray", linewidth=0.8, label=f"horizon {flow.verdict.horizon}")
    axes.set(xlabel="lag k", ylabel="‖∂L$_t$/∂s$_{t−k}$‖", title="how it changes on its way back")
    _log(axes)
    axes.legend(frameon=False, fontsize=8)


def _lag_gradients(axes: "Axes", flow: AbstractFlow) -> None:
    for i, (name, norms) in enumerate(flow.lags.norms.items()):
        axes.plot(norms, color=_COLOURS[i % 7], linestyle=_DASHES[i // 7 % 4], linewidth=1, label=name.removeprefix("recurrence."))
    axes.plot(flow.lags.total, color="black", linewidth=2, label="all")
    axes.set(xlabel="lag k", ylabel="‖g$^{(k)}$‖", title="what each lag adds to the gradient")
    _log(axes)
    axes.legend(frameon=False, fontsize=7)


def _bias(axes: "Axes", bias: BiasCurve, chosen: int | None) -> None:
    axes.plot(bias.windows, bias.bias, color=_COLOURS[0], label="sliding: every loss sees K lags")
    for curve, colour, label in ((bias.chunked, 1, "chunks of K"), (bias.overlapping, 2, "windows of 2K, a new one every K")):
        if curve is not None:
            axes.plot(curve.windows, curve.bias, color=_COLOURS[colour], marker=".", label=label)
    axes.plot(bias.windows, 1 - bias.cosine, color=_COLOURS[0], linestyle=":", linewidth=1, label="1 − cos, sliding")
    for window in dict.fromkeys(w for w in bias.least.values() if w is not None):
        levels = [level for level, w in bias.least.items() if w == window]
        axes.plot([window] * len(levels), levels, "o", color=_COLOURS[0], markersize=4)
        percents = ", ".join(f"{100 * level:g} %" for level in levels)  # one label where several are met at once
        axes.annotate(f"{percents}: {window}", (window, levels[0]), textcoords="offset points", xytext=(4, 4), fontsize=8)
    if bias.own is not None and bias.own.bias > 0:
        axes.plot(bias.own.window, bias.own.bias, "o", color=_COLOURS[3], label="as it is trained")
    if chosen is not None:
        axes.axvline(chosen, color="gray", linewidth=0.8, label=f"K = {chosen}")
    axes.set(xlabel="window K", title="what a window of K steps misses")
    _log(axes)
    axes.legend(frameon=False, fontsize=8)


def _log(axes: "Axes") -> None:
    """A logarithmic scale, where there is something above 0 to show on it."""
    drawn = [line for line in axes.lines if line.get_transform() == axes.transData]  # not a mark from top to bottom
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in drawn])
    if ((values > 0) & np.isfinite(values)).any():
        axes.set_yscale("log")
    else:
        axes.text(0.5, 0.5, "every number is 0", ha="center", va="center", transform=axes.transAxes, color="gray")


def _spectra(axes: "Axes", found: Jacobians) -> None:
    spectra = {1: found.singular_values} | {p: found.span_singular_values[p] for p in found.spans}
    for i, (span, values) in enumerate(spectra.items()):
        label = "J$_t$" if span == 1 else f"of {span} steps"
        axes.plot(values.nanmedian(0).values, color=_COLOURS[i % 7], linestyle=_DASHES[i % 4], label=label)
    axes.axhline(1, color="gray", linewidth=0.8)
    exponents = f"; λ$_1$ = {found.exponents[0]:.3g} nats a step" if len(found.exponents) and found.exponents[0].isfinite() else ""
    axes.set(xlabel="rank", ylabel="singular value", title=f"Jacobians{exponents}")
    _log(axes)
    axes.legend(frameon=False, fontsize=8)


def _gates(axes: "Axes", gates: Gates) -> None:
    known = ~gates.openness.isnan().all(2)
    values = gates.openness if known.any() else gates.saturation
    for layer, rows in enumerate(values):
        for g, (gate, row) in enumerate(zip(gates.names, rows, strict=True)):
            name = "activation" if gate == "a" else gate
            if not row.isnan().all():
                axes.plot(row.sort().values, color=_COLOURS[g % 7], linestyle=_DASHES[layer % 4], label=f"{name}, layer {layer}")
    what = "openness" if known.any() else "saturation"
    axes.set(
        xlabel="units, sorted", ylabel=what, ylim=(-0.02, 1.02), title=f"{what} of the gates" if known.any() else "saturation of the units"
    )
    axes.legend(frameon=False, fontsize=8)
