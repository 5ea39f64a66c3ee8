"""The adjoint map A[t, k], filled one lag at a time: means over streams, profiles and quantiles over all.

T time · B batch · L layers · K lags · Q quantiles.
"""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from ._lags import Lag
from ._results import QUANTILES, AdjointMap

_END = 1e240  # short of float64's own, so that norms and the ticks beyond a picture's margins are numbers too


@final
class MapBuilder:
    """Takes the lags in turn. ``counted`` (T, B): where a loss counts; the others' zeros are in no mean."""

    def __init__(self, counted: Tensor, K: int, layers: int, stream: int, *, inputs: bool) -> None:
        T = len(counted)
        self.counted = counted.cpu().numpy()
        self.all_count = bool(self.counted.all())
        self.streams = self.counted.sum(1).astype(np.float64)  # (T,)
        self.share = np.divide(1.0, self.streams, out=_nothing(T), where=self.streams > 0)  # NaN where no stream has a loss
        self.stream, self.own_share = stream, np.where(self.counted[:, stream], 1.0, np.nan)
        self.joint, self.own = _nothing(T, K), _nothing(T, K)
        self.layers = self.joint[None] if layers == 1 else _nothing(layers, T, K)
        self.inputs, self.own_inputs = (_nothing(T, K), _nothing(T, K)) if inputs else (None, None)
        self.quantiles = _nothing(len(QUANTILES), K)
        self.profile, self.layer_profiles, self.input_profile = _nothing(K), _nothing(layers, K), _nothing(K)
        self.count, self.border = np.zeros(K), _nothing(T)

    @np.errstate(over="ignore", invalid="ignore")  # of a lag that has grown beyond float64, which ``overflows`` tells
    def add(self, lag: Lag) -> None:
        losses = slice(lag.start + lag.k, lag.stop + lag.k)  # the steps t = u + k whose losses these are
        self.count[lag.k] = self.streams[losses].sum()
        values = self._column(lag, losses, lag.joint, self.joint, self.profile)
        self.quantiles[:, lag.k] = _quantiles(values.ravel() if self.all_count else values[self.counted[losses]])
        self._own_column(lag, losses, values, self.own)
        self.layer_profiles[0, lag.k] = self.profile[lag.k]
        if len(self.layers) > 1:
            for norms, map_, profile in zip(lag.layers, self.layers, self.layer_profiles, strict=True):
                self._column(lag, losses, norms, map_, profile)
        if lag.inputs is not None and self.inputs is not None and self.own_inputs is not None:
            values = self._column(lag, losses, lag.inputs, self.inputs, self.input_profile)
            self._own_column(lag, losses, values, self.own_inputs)
        if lag.border is not None:
            self.border[losses.start] = float(lag.border.sum(dtype=torch.float64)) * lag.factor * self.share[losses.start]

    def _column(self, lag: Lag, losses: slice, norms: Tensor, into: np.ndarray, profile: np.ndarray) -> np.ndarray:
        """The means over the streams that have a loss, and over all of them together; returns the true norms (n, B)."""
        values = norms.double().cpu().numpy() * lag.factor  # which may be beyond float32
        sums = values.sum(1)
        into[losses, lag.k] = sums * self.share[losses]
        profile[lag.k] = sums.sum() / self.count[lag.k]
        return values

    def _own_column(self, lag: Lag, losses: slice, values: np.ndarray, into: np.ndarray) -> None:
        into[losses, lag.k] = values[:, self.stream] * self.own_share[losses]

    def overflows(self, lag: Lag) -> bool:
        """Whether a lag has come near the end of float64: then it and those after it tell nothing."""
        with_inputs = self.inputs is not None and not self.input_profile[lag.k] < _END
        return bool(not self.profile[lag.k] < _END or with_inputs)

    def result(self, K: int) -> AdjointMap:
        """Of the first K lags."""
        t = lambda values: torch.from_numpy(np.ascontiguousarray(values))
        self.border[~np.isfinite(self.border)] = np.nan
        inputs = (
            None
            if self.inputs is None or self.own_inputs is None
            else tuple(t(part[..., :K]) for part in (self.inputs, self.own_inputs, self.input_profile))
        )
        seen, own, profile = inputs or (None, None, None)
        return AdjointMap(
            joint=t(self.joint[..., :K]),
            layers=t(self.layers[..., :K]),
            inputs=seen,
            stream=self.stream,
            stream_joint=t(self.own[..., :K]),
            stream_inputs=own,
            profile=t(self.profile[..., :K]),
            quantiles=t(self.quantiles[..., :K]),
            layer_profiles=t(self.layer_profiles[..., :K]),
            input_profile=profile,
            counts=t(self.count[..., :K]),
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
