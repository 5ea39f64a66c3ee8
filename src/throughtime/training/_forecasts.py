"""A trained forecaster from Python: what comes after the end of a table, step by step, with intervals and times.

C columns · K horizon · V targets.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from .. import _check
from .._check import InputError
from ..data import Origins, Read, SeriesTable, measured_series, read_series
from ..models import Forecaster
from ._backtest import Backtest, backtest
from ._face import AbstractTrained
from ._files import write_text
from ._paths import PATHS, Ranks, ranks
from ._roll import roll
from ._series_stream import SeriesStream
from .options import SeriesRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@final
@dataclass(frozen=True)
class Forecast:
    """What comes after the end of some series.

    Attributes:
        group: the name of each row's series.
        time: of each row, as text.
        targets: the names of the values.
        point: (N, V) the forecasts, in the table's units.
        low, high: (N, V) the ends of the interval; beyond the horizon from sample paths of a Gaussian, and NaN of quantiles, which say
            where each value lies and not how values hang together; None: the loss has no interval.
        level: the probability that the interval is to hold.
        past: the last values of each series, (·, V) by name.
    """

    group: list[str]
    time: list[str]
    targets: tuple[str, ...]
    point: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    level: float
    past: dict[str, np.ndarray] = field(repr=False)

    def to_csv(self, group: str | None, time: str | None) -> str:
        """A table: the series, the time, and for every target its forecast and the ends of its interval."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        names = [n for target in self.targets for n in ((target,) if self.low is None else (target, f"{target}_low", f"{target}_high"))]
        writer.writerow([*([group] if group else []), time or "step", *names])
        for i, when in enumerate(self.time):
            ends = () if self.low is None or self.high is None else (self.low, self.high)
            values = [x for v in range(len(self.targets)) for x in (self.point[i, v], *(end[i, v] for end in ends))]
            writer.writerow([*([self.group[i]] if group else []), when, *("" if np.isnan(x) else f"{x:.9g}" for x in values)])
        return out.getvalue()

    def draw(self, path: Path) -> None:
        """A picture of the first series: the last values, and the forecast with its interval."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 2.6 * min(4, len(self.targets))), layout="constrained")
        self._draw(figure)
        aside = path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            figure.savefig(aside, dpi=120)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def _draw(self, figure: "Figure") -> None:
        name = next(iter(self.past))
        rows = np.array([g == name for g in self.group])
        shown = self.targets[:4]
        for axes, v in zip(np.atleast_1d(figure.subplots(len(shown), 1, sharex=True)), range(len(shown)), strict=True):
            past = self.past[name][:, v]
            ahead = np.arange(1, int(rows.sum()) + 1)
            axes.plot(np.arange(1 - len(past), 1), past, color="#636363", linewidth=1, label="table")
            axes.plot(ahead, self.point[rows, v], color="#08519c", linewidth=1.5, label="forecast")
            if self.low is not None and self.high is not None:
                ends = self.low[rows, v], self.high[rows, v]
                axes.fill_between(ahead, *ends, color="#9ecae1", alpha=0.6, linewidth=0, label=f"{self.level:.0%} interval")
            axes.set(ylabel=shown[v])
            axes.spines[["top", "right"]].set_visible(False)
        figure.axes[0].legend(frameon=False, loc="upper left")
        figure.axes[0].set_title(f"{name + ': ' if name else ''}from {self.time[int(rows.argmax())]} on", fontsize=10)
        figure.axes[-1].set_xlabel("steps from the table's end")


@final
@dataclass(frozen=True, eq=False)
class TrainedForecaster(AbstractTrained[Forecaster]):
    """What ``throughtime train series`` has made; ``load`` opens it.

    Attributes:
        model: the best weights, in evaluation mode.
        table: the series that it was trained on, with their means and scales.
        options: all that was chosen.
        metrics: the rows of metrics.jsonl, a dict a row.
        folder: where it is.
    """

    kind = "a forecaster of a table"
    instead = "forecast(), stream() or evaluate()"

    model: Forecaster
    table: SeriesTable
    options: SeriesRun
    metrics: list[dict[str, Any]] = field(repr=False)
    folder: Path

    def forecast(self, data: Path | str | None = None, *, steps: int | None = None, level: float | None = None) -> Forecast:
        """What comes after the end of every series.

        The state is rolled forward over the whole series. The first K steps are forecast at once; for more, the forecasts are read as if
        they had come, with the other columns missing but those that are known beforehand. With a Gaussian loss the intervals beyond the
        first K steps are quantiles of 1,000 sample paths, the same ones each time.

        Args:
            data: a table with the run's columns, later than the run's own perhaps; None: the run's own. Rows at its end that have no
                target but values of the columns that are known beforehand say what is known.
            steps: how many; None: the run's horizon K.
            level: of the interval; None: the run's own. Quantiles know their own alone.

        Raises:
            InputError: columns that are not there, a series that is shorter than the context, columns that are known beforehand and end
                too early.
        """
        options, columns = self.options.series, self.table.columns
        N = options.horizon if steps is None else _check.positive("`steps`", steps, most=1_000_000)
        asked = options.interval if level is None else level
        read = None if data is None else read_series(Path(data), columns)
        place = options.files[0] if data is None else data
        rows = [self._series(g, read, place) for g in range(len(self.table.groups if read is None else read.names))]
        drawn = self._drawn if options.loss == "gaussian" and options.horizon < N else None
        found = [
            roll(self.model, columns, values, known, N, level=asked, relative=options.relative, name=name, drawn=drawn)
            for name, values, known, _, _ in rows
        ]
        V = len(columns.target)
        scale = np.concatenate([np.repeat(self.table.scale[self.table.group(name), None, :V], N, 0) for name, *_ in rows])
        mean = np.concatenate([np.repeat(self.table.mean[self.table.group(name), None, :V], N, 0) for name, *_ in rows])
        calendar = self.table.calendar if read is None else read.calendar
        lows, highs = ([end for one in found if (end := one[i]) is not None] for i in (1, 2))
        low, high = (np.concatenate(ends) * scale + mean if ends else None for ends in (lows, highs))
        shown = max(2 * N, 48)
        return Forecast(
            [name for name, *_ in rows for _ in range(N)],
            [calendar.at(first, size + k) for _, values, _, first, size in rows for k in range(N)],
            columns.target,
            np.concatenate([one.point for one in found]) * scale + mean,
            low,
            high,
            asked,
            {
                name: values[-shown:, :V] * self.table.scale[self.table.group(name), :V] + self.table.mean[self.table.group(name), :V]
                for name, values, *_ in rows
            },
        )

    def _drawn(self) -> Iterator[np.ndarray]:
        """The probabilities of sample paths, block after block; the same ones each time."""
        rng = np.random.default_rng(self.options.loop.seed)
        return (self._ranks.drawn(rng, PATHS) for _ in count())

    @cached_property
    def _ranks(self) -> Ranks:
        options = self.options.series
        return ranks(self.model, self.table, context=options.context, relative=options.relative)

    def stream(self, streams: int = 1, *, group: str | None = None) -> SeriesStream:
        """One row at a time: ``push(row)`` takes the values of a step in the table's units, and gives the forecast of the next K steps.

        Args:
            streams: 1; a series is one stream.
            group: which series' means and scales to use; None: those of the only one.

        Raises:
            InputError: another number of streams, a series that the run has not learned from, or none named where there are several.
        """
        if streams != 1:
            raise InputError(f"streams is {streams}; expected 1, since every series has scales of its own. Open a stream for each series.")
        names = [g.name for g in self.table.groups]
        if group is None and len(names) > 1:
            raise InputError(f"the run has {len(names):,} series; expected the name of one, such as group={names[0]!r}. Name it.")
        g = self.table.group(names[0] if group is None else group)
        return SeriesStream(self.model, self.table, g, relative=self.options.series.relative)

    def _series(self, g: int, read: Read | None, place: Path | str) -> tuple[str, np.ndarray, np.ndarray, float, int]:
        """A series: its name, its values standardised, what is known of the time after them, its first time, and its steps."""
        columns = self.table.columns
        if read is None:
            group = self.table.groups[g]
            name, first = group.name, group.first
            values = np.array(self.table.open_values()[group.start : group.stop])
        else:
            name, first = read.names[g], read.firsts[g]
            own = self.table.group(name)
            raw = read.values[read.bounds[g] : read.bounds[g + 1]]
            values = ((raw - self.table.mean[own]) / self.table.scale[own]).astype(np.float32)
        V, N, whose = len(columns.target), len(columns.known), f"the series {name!r}" if name else "the table"
        given = np.isfinite(values[:, :V]).any(1)
        if not given.any():
            raise InputError(f"{place}: {whose} has no target; expected some steps to forecast from. Give them.")
        size = int(np.flatnonzero(given)[-1]) + 1 if N else len(values)
        if size < self.options.series.context:
            raise InputError(
                f"{place}: {whose} has {_check.counted(size, 'step')}; expected "
                f"{self.options.series.context:,} at least, the run's --context. Give more of its past."
            )
        return name, values[:size], values[size:, -N:] if N else values[:0, :0], first, size

    def evaluate(
        self,
        part: str = "test",
        *,
        data: Path | str | None = None,
        most: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Backtest:
        """A backtest over every origin of a part, beside forecasts that need no model.

        Args:
            part: "train", "valid" or "test" of the run's own table.
            data: another table with the same columns and series, measured as a whole; its context is its own first steps.
            most: only so many origins of each series; None: all.
            progress: told how much is done, and of how much.

        Raises:
            InputError: the part is too short for a forecast; a table as for ``forecast``.
        """
        _check.one_of("part", part, ("train", "valid", "test"))
        o = self.options.series
        table = self.table if data is None else measured_series(Path(data), self.table, shortest=o.context + o.horizon)
        origins = Origins(
            table, part if data is None else "test", horizon=o.horizon, context=o.context, pieces=64, relative=o.relative, most=most
        )
        return backtest(self.model, origins, window=self.options.loop.bptt, level=o.interval, progress=progress)


def write_forecast(forecast: Forecast, path: Path, group: str | None, time: str | None) -> None:
    """The table, as a whole or not at all."""
    write_text(path, forecast.to_csv(group, time))
