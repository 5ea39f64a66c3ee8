"""The adjoint map A[t, k], filled one lag at a time: means over streams, profiles and quantiles over all.

T time · B batch · L layers · K lags · Q quantiles.
"""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from ._flow import QUANTILES, AdjointMap
from ._lags import Lag


@final
class MapBuilder:
    """Takes the lags in turn. ``counted`` (T, B): where a loss counts; the others' zeros are in no mean."""

    def __init__(self, counted: Tensor, K: int, layers: int, stream: int, *, inputs: bool) -> None:
        T = len(counted)
        self.counted = counted.cpu().numpy()
        self.streams = self.counted.sum(1).astype(np.float64)  # (T,)
        self.stream = stream
        self.joint, self.own = _nothing(T, K), _nothing(T, K)
        self.layers = self.joint[None] if layers == 1 else _nothing(layers, T, K)
        self.inputs, self.own_inputs = (_nothing(T, K), _nothing(T, K)) if inputs else (None, None)
        self.quantiles = _nothing(len(QUANTILES), K)
        self.profile, self.layer_profiles, self.input_profile = _nothing(K), _nothing(layers, K), _nothing(K)
        self.count, self.border = np.zeros(K), _nothing(T)

    def add(self, lag: Lag) -> None:
        losses = slice(lag.start + lag.k, lag.stop + lag.k)  # the steps t = u + k whose losses these are
        counted, streams = self.counted[losses], self.streams[losses]
        there, self.count[lag.k] = streams > 0, streams.sum()

        def column(norms: Tensor) -> tuple[np.ndarray, np.ndarray, float]:
            """(n, B) true norms, (n,) means over the streams that have a loss, their mean over all."""
            values = norms.double().cpu().numpy()  # the factor may be beyond float32
            sums = values.sum(1)
            means = np.divide(sums, streams, out=np.full_like(sums, np.nan), where=there)
            return values, means * lag.factor, float(sums.sum()) / self.count[lag.k] * lag.factor

        values, self.joint[losses, lag.k], self.profile[lag.k] = column(lag.joint)
        self.quantiles[:, lag.k] = _quantiles(values[counted]) * lag.factor
        own = counted[:, self.stream]
        self.own[losses, lag.k] = np.where(own, values[:, self.stream] * lag.factor, np.nan)
        self.layer_profiles[0, lag.k] = self.profile[lag.k]
        if len(self.layers) > 1:
            for ell, norms in enumerate(lag.layers):
                _, self.layers[ell, losses, lag.k], self.layer_profiles[ell, lag.k] = column(norms)
        if lag.inputs is not None and self.inputs is not None and self.own_inputs is not None:
            values, self.inputs[losses, lag.k], self.input_profile[lag.k] = column(lag.inputs)
            self.own_inputs[losses, lag.k] = np.where(own, values[:, self.stream] * lag.factor, np.nan)
        if lag.border is not None and there[0]:
            norms = torch.stack(lag.border).movedim(2, 0).flatten(1).norm(dim=1)  # (B,)
            self.border[losses.start] = float(norms.sum(dtype=torch.float64)) / streams[0] * lag.factor

    def result(self) -> AdjointMap:
        t = torch.from_numpy
        inputs = None if self.inputs is None or self.own_inputs is None else (t(self.inputs), t(self.own_inputs), t(self.input_profile))
        seen, own, profile = inputs or (None, None, None)
        return AdjointMap(
            joint=t(self.joint),
            layers=t(self.layers),
            inputs=seen,
            stream=self.stream,
            stream_joint=t(self.own),
            stream_inputs=own,
            profile=t(self.profile),
            quantiles=t(self.quantiles),
            layer_profiles=t(self.layer_profiles),
            input_profile=profile,
            counts=t(self.count),
            border=t(self.border),
        )


def _nothing(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan)


def _quantiles(values: np.ndarray, levels: Sequence[float] = QUANTILES) -> np.ndarray:
    """Linear between the two nearest, as ``numpy.quantile``; one sort serves all levels."""
    ordered = np.sort(values)
    at = np.asarray(levels) * (len(ordered) - 1)
    below = at.astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])
