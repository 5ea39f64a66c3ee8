"""Intervals beyond a forecaster's horizon K, from sample paths: K steps are drawn, read as if they had come, and the next K are drawn.

Each value of a block has the distribution that the model gives it after the path so far. How the values of one block hang together the
model does not say. A path takes that from a held-out part of the table: for each block an origin there is drawn, and the ranks of its
errors among those of all origins are the probabilities at which the block's values lie (the Schaake shuffle, Clark et al. 2004). Where a
block is a single value, the paths are draws from the model and nothing else.

C columns · K horizon · V targets · M paths · R origins · I inputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from .._shapes import State
from ..data import AbstractSeries, Columns, Origins, SequenceStream, inputs_of
from ..models import Forecaster

PATHS = 1000  # the probability that an end of an interval stands for is right to about 1 %
_ORIGINS = 1000  # at most
_STREAMS = 64


@final
@dataclass(frozen=True)
class Ranks:
    """(R, K, V) the place of every origin's error among the R of its step and target, counted from 0."""

    places: np.ndarray

    def drawn(self, rng: np.random.Generator, paths: int) -> np.ndarray:
        """Probabilities (M, K, V): each is uniform by itself, and together they are those of an origin."""
        R = len(self.places)
        return (self.places[rng.integers(R, size=paths)] + rng.random((paths, *self.places.shape[1:]))) / R

    @classmethod
    def of(cls, errors: np.ndarray) -> "Ranks":
        """Of standardised errors (R, K, V)."""
        return cls(errors.argsort(0, kind="stable").argsort(0, kind="stable"))


@torch.no_grad()
def ranks(model: Forecaster, table: AbstractSeries, *, context: int, relative: bool) -> Ranks:
    """Those of the validation part; of the training part where validation has no origin whose K next values are all known."""
    K, V = model.horizon, model.targets
    if K * V == 1:
        return Ranks(np.zeros((1, 1, 1)))
    for part in ("valid", "train"):
        found = np.concatenate([np.zeros((0, K, V)), *_errors(model, table, part, context, relative)])
        if len(found):
            return Ranks.of(found[np.linspace(0, len(found) - 1, min(_ORIGINS, len(found))).astype(int)])
    return Ranks(np.zeros((1, K, V)))  # no origin is whole: each value for itself


def _errors(model: Forecaster, table: AbstractSeries, part: str, context: int, relative: bool) -> Iterator[np.ndarray]:
    """The model's probability of what came, (·, K, V), for the origins of each window whose next values are all known."""
    most = 4 * _ORIGINS
    origins = Origins(table, part, horizon=model.horizon, context=context, pieces=_STREAMS, relative=relative, most=most)
    if not len(origins):
        return
    stream, state = SequenceStream(origins, batch_size=_STREAMS, window=256), None
    for i in range(len(stream)):
        batch = stream[i].to(model.head.weight.device)
        anew = batch.fresh is not None and bool(batch.fresh.all())
        hs, state = model.recurrence(model.enter(batch), None if anew else state)
        found = model.probability(model.head(hs), batch.known_targets())
        assert found is not None, "the loss gives a distribution"
        whole = batch.counts() & ~found.isnan().flatten(2).any(2)
        yield found[whole].double().cpu().numpy()


@torch.no_grad()
def beyond(
    model: Forecaster,
    columns: Columns,
    rows: np.ndarray,
    start: int,
    o: Tensor,
    state: State,
    since: np.ndarray,
    drawn: Iterator[np.ndarray],
    *,
    level: float,
    relative: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """The ends (·, V) of the intervals of every block after the first, standardised.

    Args:
        model: of a loss that gives a distribution.
        columns: which they are.
        rows: (·, C) the series, its point forecasts from ``start`` on, and what is known beforehand.
        start: the first row that is forecast.
        o: the head's output at the row before it.
        state: after that row.
        since: (V,) the last known values; 0 where the targets are no changes.
        drawn: probabilities (M, K, V) for each block, the first one's first.
        level: of the interval.
        relative: whether the model forecasts changes.
    """
    K, V, ends = model.horizon, len(since), []
    u = next(drawn)
    M = len(u)
    o, state = o.expand(M, -1), tuple(s.expand(s.shape[0], M, *s.shape[2:]).contiguous() for s in state)
    before = np.broadcast_to(rows[start - 1, :V], (M, V))  # NaN where it is missing
    y = _block(model, o, u) + since
    for at in range(start, len(rows) - K, K):
        inputs = _inputs(inputs_of(rows[at : at + 2 * K], K, K, columns, relative=relative, before=rows[at - 1]), y, before, relative)
        hs, state = model.recurrence(torch.from_numpy(inputs).to(o.device), state)
        o, u, before = model.head(hs[-1]), next(drawn), y[:, -1]
        y = _block(model, o, u) + (before[:, None] if relative else 0.0)
        ends.append(np.quantile(y, [(1 - level) / 2, (1 + level) / 2], axis=0))
    low, high = np.concatenate(ends, 1)
    return low, high


def _block(model: Forecaster, o: Tensor, u: np.ndarray) -> np.ndarray:
    """The values (M, K, V) at some probabilities."""
    found = model.value_at(o, torch.from_numpy(u).to(o))
    assert found is not None, "the loss gives a distribution"
    return found.double().cpu().numpy()


def _inputs(base: np.ndarray, y: np.ndarray, before: np.ndarray, relative: bool) -> np.ndarray:
    """(K, M, I) what is read of a block (M, K, V) drawn after values (M, V); the rest is that of the point forecast (K, I)."""
    inputs = np.repeat(base[:, None], len(y), 1)
    values = y.transpose(1, 0, 2)
    changes = values - np.concatenate([before[None], values[:-1]]) if relative else values
    inputs[:, :, : y.shape[2]] = np.nan_to_num(changes)
    return inputs
