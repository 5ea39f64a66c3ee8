"""A measurement of gradient flow as JSON: what the page shows, and what another program may read.

Numbers are rounded to 6 significant digits, those of the maps to 4; ``null`` is where there is nothing to measure, and the strings
``"inf"`` and ``"-inf"`` stand for numbers without a limit. Maps of more than ``CELLS`` cells in all keep every s-th step, counted back
from the last; the tensors of the ``Flow`` have them all.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ..._version import __version__
from .._base import AbstractFlow
from ..measure import BiasCurve, Gates, Jacobians, WindowBias

CELLS = 300_000  # of all maps together: about 3 MB
_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the samples of singular values

_ABOUT = ("cell", "layers", "hidden_size", "T", "B", "max_lag", "carried", "precision", "again")

Symbols = Callable[[int], str]


def to_text(flow: AbstractFlow, *, symbols: Symbols | None = None, window: int | None = None) -> str:
    """Compact JSON."""
    return json.dumps(as_dict(flow, symbols=symbols, window=window), separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def as_dict(flow: AbstractFlow, *, symbols: Symbols | None = None, window: int | None = None) -> dict[str, Any]:
    """Every number of a flow, in lists and dictionaries."""
    return {
        "about": {
            "throughtime": __version__,
            **{
                name: getattr(flow, name)
                for name in ("cell", "layers", "hidden_size", "T", "B", "max_lag", "carried", "precision", "again")
            },
            "loss": _number(flow.loss),
            "guess": _plain(flow.guess),
            "closes": flow.lags.closes,
        },
        "verdict": _plain(asdict(flow.verdict)),
        "lags": _plain({k: getattr(flow.lags, k) for k in ("norms", "total", "gradient", "gradient_norm", "beyond", "error")}),
        "adjoint": _adjoint(flow),
        "bias": None if flow.bias is None else _bias(flow.bias, chosen_window(flow) if window is None else window),
        "jacobians": None if flow.jacobians is None else _jacobians(flow.jacobians),
        "gates": None if flow.gates is None else _gates(flow.gates),
        "text": _text(flow, symbols),
    }


def chosen_window(flow: AbstractFlow) -> int | None:
    """The window that the verdict advises, in steps."""
    return next((round(a.value) for a in flow.verdict.advice if a.about == "window" and a.value is not None), None)


def maps_of(flow: AbstractFlow) -> dict[str, Tensor]:
    """Every map [t, k] by name, (T, K) each."""
    map = flow.adjoint
    named = {"state": map.joint, "input": map.inputs, "state of one stream": map.stream_joint, "input of one stream": map.stream_inputs}
    layers = {f"layer {i}": layer for i, layer in enumerate(map.layers)} if flow.layers > 1 else {}
    return {name: values for name, values in (named | layers).items() if values is not None}


def _adjoint(flow: AbstractFlow) -> dict[str, Any]:
    maps, (T, K) = maps_of(flow), flow.adjoint.joint.shape
    every = max(1, math.ceil(len(maps) * T * K / CELLS))
    steps = list(range(T - 1, -1, -every))[::-1]
    about = {name: getattr(flow.adjoint, name) for name in ("profile", "quantiles", "levels", "layer_profiles", "input_profile")}
    return {
        "steps": steps,
        "stream": flow.adjoint.stream,
        "maps": {name: [_row(values[t, : t + 1]) for t in steps] for name, values in maps.items()},  # t ≥ k
        **_plain(about | {"counts": flow.adjoint.counts, "border": flow.adjoint.border}),
    }


def _row(values: Tensor) -> list[Any] | None:
    """One step's numbers by lag; None where it has no loss."""
    return None if values.isnan().all() else [_number(x, 4) for x in values.tolist()]


def _bias(bias: BiasCurve, chosen: int | None) -> dict[str, Any]:
    names = ("windows", "bias", "cosine", "whole_bias", "whole_cosine", "whole_norm", "parameters")
    return _plain({name: getattr(bias, name) for name in names}) | {
        "least": _least(bias.least),
        "chosen": chosen,
        "chunked": None if bias.chunked is None else _window_bias(bias.chunked),
        "overlapping": None if bias.overlapping is None else _window_bias(bias.overlapping),
        "own": None if bias.own is None else _plain(asdict(bias.own)),
    }


def _window_bias(curve: WindowBias) -> dict[str, Any]:
    return _plain({name: getattr(curve, name) for name in ("windows", "bias", "cosine")}) | {"least": _least(curve.least)}


def _least(least: Mapping[float, int | None]) -> dict[str, int | None]:
    return {f"{level:g}": window for level, window in least.items()}


def _jacobians(found: Jacobians) -> dict[str, Any]:
    names = ("exponents", "exponents_spread", "exponent_steps", "burn_in", "radius")
    return {
        "samples": len(found.steps),
        "levels": list(_LEVELS),
        "singular_values": _over_samples(found.singular_values),
        "spans": list(found.spans),
        "span_singular_values": {str(p): _over_samples(found.span_singular_values[p]) for p in found.spans},
        **_plain({name: getattr(found, name) for name in names}),
    }


def _over_samples(values: Tensor) -> Any:
    """Least, quartiles and greatest of (N, n) over the samples, (5, n)."""
    return _plain(torch.nanquantile(values, torch.tensor(_LEVELS, dtype=values.dtype), 0))


def _gates(gates: Gates) -> dict[str, Any]:
    return _plain({k: getattr(gates, k) for k in ("names", "openness", "saturation", "retention", "half_life", "dead")})


def _text(flow: AbstractFlow, symbols: Symbols | None) -> dict[str, Any] | None:
    """What went in and should come out of the one stream whose maps are shown, and its losses."""
    if flow.inputs is None:
        return None
    spell = (lambda i: str(i)) if symbols is None else symbols

    def column(ids: Tensor | None) -> list[str] | None:
        return None if ids is None else [spell(i) for i in ids[:, flow.adjoint.stream].tolist()]

    return {
        "spelled": symbols is not None,
        "inputs": column(flow.inputs),
        "targets": column(flow.targets),
        "losses": _plain(flow.losses[:, flow.adjoint.stream]),
    }


def _plain(value: Any) -> Any:
    """Tensors, mappings and sequences as JSON has them."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return _number(value) if isinstance(value, float) else value


def _number(x: float, digits: int = 6) -> float | str | None:
    if math.isfinite(x):
        return float(f"{x:.{digits}g}")
    return None if math.isnan(x) else "inf" if x > 0 else "-inf"
