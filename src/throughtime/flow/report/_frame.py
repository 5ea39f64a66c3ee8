"""A measurement of gradient flow as a table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

from .._base import AbstractFlow
from ._json import maps_of

if TYPE_CHECKING:
    import polars


def to_frame(flow: AbstractFlow, rows: Literal["lags", "map"]) -> "polars.DataFrame":
    """See ``Flow.to_frame``."""
    try:
        import polars
    except ImportError:
        raise ImportError(
            "to_frame needs polars, which is not installed; expected polars 1 or newer. Install it: pip install 'throughtime[frames]'"
        ) from None
    return polars.DataFrame(_by_lag(flow) if rows == "lags" else _by_step_and_lag(flow))


def _by_lag(flow: AbstractFlow) -> Mapping[str, list[float] | list[int]]:
    adjoint = flow.adjoint
    columns: dict[str, list[float] | list[int]] = {"lag": list(range(flow.max_lag + 1))}
    columns |= {"profile": adjoint.profile.tolist()}
    columns |= {f"profile_q{level:g}": row.tolist() for level, row in zip(adjoint.levels, adjoint.quantiles, strict=True)}
    columns |= {f"profile_layer{i}": row.tolist() for i, row in enumerate(adjoint.layer_profiles)}
    columns |= {} if adjoint.input_profile is None else {"profile_input": adjoint.input_profile.tolist()}
    columns |= {"count": [int(n) for n in adjoint.counts.tolist()]}
    if len(flow.lags.total):
        columns |= {"gradient": flow.lags.total.tolist()}
        columns |= {f"gradient:{name}": norms.tolist() for name, norms in flow.lags.norms.items()}
    if flow.bias is not None:
        columns |= {"window": [int(w) for w in flow.bias.windows.tolist()]}
        columns |= {"bias": flow.bias.bias.tolist(), "cosine": flow.bias.cosine.tolist()}
    return columns


def _by_step_and_lag(flow: AbstractFlow) -> Mapping[str, list[float] | list[int]]:
    t, k = torch.tril_indices(*flow.adjoint.joint.shape)  # t ≥ k
    return {"step": t.tolist(), "lag": k.tolist()} | {name: values[t, k].tolist() for name, values in maps_of(flow).items()}
