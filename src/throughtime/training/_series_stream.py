"""A forecaster that reads a series row by row, in the table's own units.

C columns · K horizon · V targets.
"""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch

from .._check import InputError
from ..data import AbstractSeries, inputs_of
from ..models import Forecaster
from ._stream import Stream


@final
class SeriesStream:
    """``push(row)`` gives the forecast of the K steps after it. The state is kept from row to row.

    What it forecasts after the last row of a table is what ``forecast`` gives there.

    Args:
        model: the network.
        series: for its columns, means and scales.
        group: which series' means and scales to use.
        relative: whether the network forecasts changes.
    """

    def __init__(self, model: Forecaster, series: AbstractSeries, group: int, *, relative: bool) -> None:
        self._model, self._relative = model, relative
        self._columns, self._mean, self._scale = series.columns, series.mean[group], series.scale[group]
        self._stream = Stream(model)
        self.reset()

    def push(self, row: Any, known: Any = None) -> np.ndarray:
        """One step.

        Args:
            row: the values of the columns (C,): targets, features, then those that are known beforehand; or a mapping from their names.
                NaN, or a name that is not there, is a missing value.
            known: what is known beforehand of the next K steps, (K, columns); needed where the run has such columns.

        Returns:
            The forecast of the targets (K, V).

        Raises:
            InputError: another number of values, a name that is no column, infinite values.
        """
        self._o = torch.from_numpy(self._stream.push(self._inputs(self._row(row), self._ahead(known)))).unsqueeze(0)
        return self._undone(self._model.point(self._o)[0])

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Where the values of the last forecast lie with a probability, (K, V) each; None: the loss has no such interval.

        Raises:
            InputError: nothing has been pushed; a level that is no probability.
        """
        if self._o is None:
            raise InputError("no row has been pushed; expected one before an interval is asked for. Call push(row).")
        if not 0 < level < 1:
            raise InputError(f"level is {level!r}; expected a probability above 0 and below 1, such as 0.8.")
        ends = self._model.interval(self._o, level)
        return None if ends is None else (self._undone(ends[0][0]), self._undone(ends[1][0]))

    def reset(self) -> None:
        """Begin a series anew."""
        self._stream.reset()
        self._before: np.ndarray | None = None
        self._last = np.zeros(len(self._columns.target), np.float32)
        self._o: torch.Tensor | None = None

    def _row(self, row: Any) -> np.ndarray:
        """(C,) standardised."""
        names = self._columns.read
        if isinstance(row, Mapping):
            if strange := [name for name in row if name not in names]:
                raise InputError(f"{strange[0]!r} is no column of the run; expected {', '.join(names)}. Leave it out.")
            row = [row.get(name, np.nan) for name in names]
        values = np.asarray(row, np.float64)
        if values.shape != (len(names),) or np.isinf(values).any():
            raise InputError(f"row has shape {values.shape}; expected a finite value, or NaN, for each of {', '.join(names)}.")
        return ((values - self._mean) / self._scale).astype(np.float32)

    def _ahead(self, known: Any) -> np.ndarray:
        """(K, C), of which the columns that are known beforehand are filled in."""
        K, n = self._model.horizon, len(self._columns.known)
        rows = np.full((K, len(self._mean)), np.nan, np.float32)
        if known is None and not n:
            return rows
        values = np.asarray(np.nan if known is None else known, np.float64)
        if values.shape != (K, n):
            what = ", ".join(self._columns.known) or "no column"
            raise InputError(f"known has shape {values.shape}; expected {(K, n)}: {what}, at each of the next {K} steps.")
        rows[:, -n:] = (values - self._mean[-n:]) / self._scale[-n:]
        return rows

    def _inputs(self, now: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        rows = np.concatenate([now[None], ahead])
        found = inputs_of(rows, 1, len(ahead), self._columns, relative=self._relative, before=self._before)[0]
        targets = now[: len(self._last)]
        self._before, self._last = now, np.where(np.isfinite(targets), targets, self._last)
        return found

    def _undone(self, values: torch.Tensor) -> np.ndarray:
        V = len(self._last)
        since = self._last.astype(np.float64) if self._relative else 0.0
        return (values.double().numpy() + since) * self._scale[:V] + self._mean[:V]
