"""A backtest: forecasts from every origin of a held-out part, beside those that need no model.

    RMSE = √ mean e²          MAE = mean |e|         MASE = mean |e| / q              (Hyndman & Koehler 2006)

e is the error of one value at one of the K steps, over every origin whose K next steps are in the part; a missing value has none. q is the
mean |y_t − y_{t−m}| of the series' training part, m the season.

T time · B batch · K horizon · V targets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch

from .._check import InputError
from ..data import Origins, SequenceStream
from ..models import Forecaster
from ._score import AbstractScore
from ._unit import number
from ._walk import walk

_STREAMS = 64
LAST, SEASONAL, MEAN = "last value", "seasonal naive", "mean of training"


@final
@dataclass
class Errors:
    """Sums over the errors of one way to forecast."""

    targets: int  # V
    squared: np.ndarray = field(init=False)  # (V,) in the targets' own units
    absolute: np.ndarray = field(init=False)
    count: np.ndarray = field(init=False)
    standard: float = 0.0  # squares, in standard deviations of the training part
    scaled: float = 0.0  # |e| / q
    scaled_count: int = 0

    def __post_init__(self) -> None:
        self.squared, self.absolute, self.count = np.zeros(self.targets), np.zeros(self.targets), np.zeros(self.targets)

    def add(self, error: np.ndarray, scale: np.ndarray, q: np.ndarray) -> None:
        """Errors (N, K, V), standardised and NaN where there is none; the scale (V,) and q (V,) of their series."""
        known, e = np.isfinite(error), np.nan_to_num(error)
        self.squared += (e * scale).__pow__(2).sum((0, 1))
        self.absolute += np.abs(e * scale).sum((0, 1))
        self.count += known.sum((0, 1))
        self.standard += float(np.square(e).sum())
        some = q > 0
        self.scaled += float((np.abs(e)[..., some] / q[some]).sum())
        self.scaled_count += int(known[..., some].sum())

    def numbers(self) -> dict[str, Any]:
        """RMSE and MAE of each target, MASE, and the mean square in standard deviations."""
        n = np.maximum(self.count, 1)
        return {
            "rmse": np.sqrt(self.squared / n).tolist(),
            "mae": (self.absolute / n).tolist(),
            "mase": self.scaled / self.scaled_count if self.scaled_count else None,
            "mse_standardised": self.standard / max(1.0, float(self.count.sum())),
        }


@final
@dataclass(frozen=True)
class Backtest(AbstractScore):
    """How well a forecaster does on a held-out part.

    Attributes:
        mean_loss: of a value, as in training.
        origins: forecasts that were made.
        errors: of the model, and of the forecasts that it is compared with, by name.
        covered: the share of values inside their interval; None: the loss has no interval.
        level: the share that is to be inside.
        names: of the targets.
        season: of the seasonal-naive forecast.
    """

    mean_loss: float
    origins: int
    errors: dict[str, Errors]
    covered: float | None
    level: float
    names: tuple[str, ...]
    season: int

    @property
    def loss(self) -> float:
        return self.mean_loss

    @property
    def model(self) -> dict[str, Any]:
        """RMSE, MAE, MASE of the model."""
        return self.errors["model"].numbers()

    def as_dict(self) -> dict[str, Any]:
        mine = self.model
        flat = {"loss": self.mean_loss, "mase": mine["mase"], "mse_standardised": mine["mse_standardised"]}
        flat |= {f"rmse_{name}": value for name, value in zip(self.names, mine["rmse"], strict=True)}
        flat |= {f"mae_{name}": value for name, value in zip(self.names, mine["mae"], strict=True)}
        flat |= {} if self.covered is None else {"covered": self.covered}
        for other, errors in self.errors.items():
            if other != "model":
                numbers, key = errors.numbers(), other.replace(" ", "_")
                flat |= {f"{key}_mase": numbers["mase"], f"{key}_mse_standardised": numbers["mse_standardised"]}
                flat |= {f"{key}_rmse_{name}": value for name, value in zip(self.names, numbers["rmse"], strict=True)}
        return flat | {"origins": self.origins}

    def line(self) -> str:
        mine = self.model
        return f"loss {number(self.mean_loss, 4)}  MASE {number(mine['mase'], 3)}  {self._rmse(mine)}"

    def table(self, name: str) -> dict[str, dict[str, str]]:
        rows = {}
        for way, errors in self.errors.items():
            numbers = errors.numbers()
            cells = {"MASE": number(numbers["mase"], 4), "RMSE / sd": number(numbers["mse_standardised"] ** 0.5, 4)}
            cells |= {f"RMSE {target}": number(value, 4) for target, value in zip(self.names[:3], numbers["rmse"], strict=False)}
            if way == "model":
                cells |= {"loss": number(self.mean_loss, 4), "origins": f"{self.origins:,}"}
                cells |= {} if self.covered is None else {f"in the {self.level:.0%} interval": f"{self.covered:.1%}"}
            shown = f"{way} ({self.season})" if way == SEASONAL else way
            rows[name if way == "model" else f"{name}, {shown}"] = cells
        return rows

    def _rmse(self, mine: dict[str, Any]) -> str:
        if len(self.names) == 1:
            return f"RMSE {number(mine['rmse'][0], 4)}"
        return f"RMSE {number(mine['mse_standardised'] ** 0.5, 4)} sd"


@torch.no_grad()
def backtest(
    model: Forecaster, origins: Origins, *, window: int, level: float, progress: Callable[[int, int], None] = lambda done, total: None
) -> Backtest:
    """Forecast from every origin, its context read before it.

    Args:
        model: put in evaluation mode meanwhile.
        origins: of a held-out part.
        window: steps at a time; the score does not depend on it.
        level: of the interval.
        progress: told windows done and in all.

    Raises:
        InputError: the part has no origin.
    """
    if not len(origins):
        raise InputError(
            f"the part {origins.part} has no {origins.horizon} steps in a row; expected some. Give it a larger share with --split."
        )
    table, V, K = origins.table, len(origins.table.columns.target), origins.horizon
    season = table.season if table.season > 1 else None
    ways = ["model", LAST, *([SEASONAL] if season else []), MEAN]
    errors = {way: Errors(V) for way in ways}
    total, steps, inside, valued = 0.0, 0, 0, 0
    stream = SequenceStream(origins, batch_size=min(_STREAMS, len(origins.pieces)), window=window)
    for places, batch, hs in walk(model, stream, progress):
        total, steps = total + float(model.losses(hs, batch).double().sum()), steps + batch.counted()
        o = model.head(hs)
        point = model.point(o).double().cpu().numpy()
        y = batch.known_targets().unflatten(-1, (K, V)).double().cpu().numpy()
        counts = batch.counts().cpu().numpy()
        ends = model.interval(o, level)
        if ends is not None:
            low, high = (end.double().cpu().numpy() for end in ends)
            known = counts[..., None, None] & np.isfinite(y)
            inside, valued = inside + int(((y >= low) & (y <= high) & known).sum()), valued + int(known.sum())
        for b, place in enumerate(places):
            n = place.stop - place.start
            here = counts[:n, b] if n > 0 else np.zeros(0, bool)
            if not here.any():
                continue
            g, begin, _, _ = origins.pieces[place.sequence]
            at = begin + place.start + np.flatnonzero(here)
            since = origins.last[at][:, None].astype(np.float64) if origins.relative else 0.0
            truth, q, scale = y[:n, b][here] + since, table.error[g], table.scale[g, :V]
            errors["model"].add(truth - since - point[:n, b][here], scale, q)
            for way in ways[1:]:
                errors[way].add(truth - _without_a_model(way, origins, g, at, season), scale, q)
    covered = inside / valued if valued else None
    return Backtest(total / max(1, steps), steps, errors, covered, level, table.columns.target, table.season)


def _without_a_model(way: str, origins: Origins, g: int, at: np.ndarray, season: int | None) -> np.ndarray:
    """The forecasts (N, K, V) from rows ``at`` of a series: its last value, its last season, or the training part's mean, which is 0."""
    group, V, K = origins.table.groups[g], len(origins.table.columns.target), origins.horizon
    if way == MEAN:
        return np.zeros((len(at), K, V))
    back = (season or 1) * 4 + origins.context
    first = max(group.start, int(at.min()) - back)
    rows = np.asarray(origins.last[first : int(at.max()) + 1], np.float64)
    if way == LAST:
        return np.repeat(rows[at - first][:, None], K, 1)
    assert season is not None, "there is a row for it where there is a season"
    ahead = np.arange(1, K + 1)
    seen = at[:, None] + ahead - season * -(-ahead // season) - first
    return rows[np.maximum(seen, 0)]
