"""A forecaster's state rolled forward: over what is known, then over its own forecasts as if they had come.

T time · C columns · K horizon · V targets.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import _check
from .._check import InputError
from .._shapes import State
from ..data import Columns, carried_on, inputs_of
from ..models import Forecaster
from ._paths import beyond

_AT_A_TIME = 4096  # steps


class Rolled(NamedTuple):
    """The next N steps of a series, standardised."""

    point: np.ndarray  # (N, V)
    low: np.ndarray | None  # (N, V) NaN beyond the horizon where no paths are drawn; None: the loss has no interval
    high: np.ndarray | None


@torch.no_grad()
def roll(
    model: Forecaster,
    columns: Columns,
    values: np.ndarray,
    known: np.ndarray,
    N: int,
    *,
    level: float,
    relative: bool,
    name: str = "",
    drawn: Callable[[], Iterator[np.ndarray]] | None = None,
) -> Rolled:
    """Forecasts for the steps after the end of a series. The first K are made at once; for more, these are read as if they had come.

    Args:
        model: in evaluation mode.
        columns: which they are.
        values: (T, C) float32, standardised; NaN where missing.
        known: what is known beforehand of the steps after these, a row a step.
        N: steps.
        level: of the interval.
        relative: whether the model forecasts changes.
        name: of the series, for messages.
        drawn: makes the probabilities of sample paths, as ``beyond`` takes them; None: there is no interval beyond the horizon.

    Raises:
        InputError: what must be known beforehand is known of fewer steps.
    """
    K, V, n = model.horizon, len(columns.target), len(columns.known)
    blocks = -(-N // K)
    told = int(np.cumprod(np.isfinite(known).all(1)).sum())  # steps without a gap
    if n and told < N:
        raise InputError(
            f"{', '.join(columns.known)}: {_check.counted(told, 'step')} known after the last target{f' of {name!r}' if name else ''}; "
            f"expected {N:,}. Give rows with these columns and no target, or lower --steps."
        )
    ahead = np.full((blocks * K, values.shape[1]), np.nan, np.float32)
    if n:
        ahead[: min(len(known), len(ahead)), -n:] = known[: len(ahead)]
    rows = np.concatenate([values, ahead])
    point = np.full((blocks * K, V), np.nan)
    low, high = np.full((blocks * K, V), np.nan), np.full((blocks * K, V), np.nan)
    state, done, intervals, first = None, 0, False, None
    for block in range(blocks):
        at = len(values) + block * K
        o, state = _read(model, columns, rows[: at + K], done, at - done, state, relative=relative)
        first, done = first or (o, state), at
        since = carried_on(rows[:at, :V])[-1].astype(np.float64) if relative else 0.0
        point[block * K : (block + 1) * K] = model.point(o)[0].double().cpu().numpy() + since
        rows[at : at + K, :V] = point[block * K : (block + 1) * K]
        ends = model.interval(o, level)
        if ends is not None and block == 0:
            low[:K], high[:K], intervals = *(end[0].double().cpu().numpy() + since for end in ends), True
    if first is not None and drawn is not None and blocks > 1:
        since = carried_on(values[:, :V])[-1].astype(np.float64) if relative else np.zeros(V)
        low[K:], high[K:] = beyond(model, columns, rows, len(values), *first, since, drawn(), level=level, relative=relative)
    return Rolled(point[:N], low[:N] if intervals else None, high[:N] if intervals else None)


def _read(
    model: Forecaster, columns: Columns, rows: np.ndarray, first: int, steps: int, state: State | None, *, relative: bool
) -> tuple[Tensor, State]:
    """The head's output (1, ·) at the last of ``steps`` rows from ``first`` on, and the state after it; read in windows."""
    device, K, o = model.head.weight.device, model.horizon, None
    for start in range(0, steps, _AT_A_TIME):
        n = min(_AT_A_TIME, steps - start)
        at = first + start
        inputs = inputs_of(rows[at : at + n + K], n, K, columns, relative=relative, before=rows[at - 1] if at else None)
        hs, state = model.recurrence(torch.from_numpy(inputs).unsqueeze(1).to(device), state)
        o = model.head(hs[-1])
    assert o is not None, "a block has K ≥ 1 steps, and the first the context"
    assert state is not None
    return o, state
