"""Series of a table, and a forecaster of them."""

import json
from pathlib import Path
from typing import Any, final

import torch

from ... import _check
from ..._check import InputError
from ...data import Columns, Origins, SequenceStream, SeriesTable, input_size, write_series
from ...models import AbstractModel, AbstractRegression, Forecaster, regression
from .._backtest import Backtest, backtest
from .._build import build_cell, check_memory, initial, initialisers
from .._forecasts import TrainedForecaster
from .._unit import Unit
from ..options import LoopOptions, SeriesOptions, SeriesRun, StackOptions
from ._base import AbstractTask, Told, ToldWhat


@final
class SeriesTask(AbstractTask):
    """A table of series."""

    unit = Unit(label="loss a value", each="steps", cost="a value")
    sizes_from = "series.json"
    sampled = "forecast with: throughtime forecast"

    def __init__(self, options: SeriesOptions, table: SeriesTable) -> None:
        self.options, self.table = options, table

    @classmethod
    def check(cls, run: SeriesRun) -> None:
        columns = columns_of(run.series)
        check_memory(lambda: _model(run.network, run.series, input_size(columns, run.series.horizon)), run.loop)

    @classmethod
    def prepare(cls, folder: Path, run: SeriesRun, *, parent: AbstractTask | None, told: ToldWhat) -> "SeriesTask":
        options = run.series
        table = write_series(
            options.files[0],
            folder,
            columns_of(options),
            split=options.split,
            shortest=options.context + options.horizon,
            season=options.season,
            parent=parent.table if isinstance(parent, SeriesTask) else None,
            told=told,
        )
        task = cls(options, table)
        task.stream(run.loop)
        return task

    @classmethod
    def open(cls, folder: Path, run: SeriesRun) -> "SeriesTask":
        return cls(run.series, SeriesTable(folder))

    def about(self) -> str:
        table = self.table
        sizes = "  ".join(
            f"{part} {sum(b - a for a, b in (g.bounds(part) for g in table.groups)):,}" for part in ("train", "valid", "test")
        )
        filled = f"; {table.filled:,} steps that the times leave out are missing values" if table.filled else ""
        series = f"{len(table.groups):,} series" if len(table.groups) > 1 else "one series"
        return f"{series} of {_check.counted(len(table.columns.read), 'column')}; steps: {sizes}{filled}"

    def build_model(self, network: StackOptions) -> Forecaster:
        return _model(network, self.options, input_size(self.table.columns, self.options.horizon))

    def stream(self, loop: LoopOptions) -> SequenceStream:
        origins = self._origins("train", loop.batch_size)
        if not len(origins):
            raise InputError(
                "the training part has no step to forecast from; expected more than --context. Lower it, or give a longer table."
            )
        return SequenceStream(origins, batch_size=loop.batch_size, window=loop.bptt, seed=loop.seed)

    def held_out(self) -> tuple[str, ...]:
        return tuple(part for part in ("valid", "test") if len(self._origins(part, 1)))

    def evaluate(self, model: AbstractModel, name: str, *, window: int, most: int | None, progress: Told) -> Backtest:
        assert isinstance(model, Forecaster), "build_model makes it"
        return backtest(model, self._origins(name, 64, most), window=window, level=self.options.interval, progress=progress)

    def windows(self, part: str | None, *, streams: int, window: int) -> tuple[str, SequenceStream]:
        name = part or ("valid" if "valid" in self.held_out() else "train")
        return name, SequenceStream(self._origins(name, streams), batch_size=streams, window=window)

    def facts(self) -> dict[str, str]:
        about = {"mean": self.table.mean.tolist(), "scale": self.table.scale.tolist(), "columns": self.table.columns.read}
        return {"series": json.dumps(about | {"horizon": self.options.horizon, "groups": [g.name for g in self.table.groups]})}

    @property
    def guess(self) -> float:
        """Of the forecast that is always the training part's mean, for numbers of standard deviation 1; drift may cost some times that."""
        loss, far = _loss(self.options, 1), torch.tensor([[[3.0]]])
        return float(loss.per_step(torch.zeros(1, 1, loss.outputs), far, lambda o: o))

    def face(self, model: AbstractModel, options: SeriesRun, metrics: list[dict[str, Any]], folder: Path) -> TrainedForecaster:
        assert isinstance(model, Forecaster), "build_model makes it"
        return TrainedForecaster(model, self.table, options, metrics, folder)

    def _origins(self, part: str, pieces: int, most: int | None = None) -> Origins:
        o = self.options
        return Origins(self.table, part, horizon=o.horizon, context=o.context, pieces=pieces, relative=o.relative, most=most)


def columns_of(options: SeriesOptions) -> Columns:
    """Which columns are what."""
    return Columns(options.target, options.features, options.known_future, options.group, options.time)


def _loss(options: SeriesOptions, values: int) -> AbstractRegression:
    """The loss, as a mean over the values of a step."""
    return regression(options.loss, values=values, coverage=options.interval)


def _model(network: StackOptions, options: SeriesOptions, inputs: int) -> Forecaster:
    network.check()
    try:
        return Forecaster(
            inputs,
            len(options.target),
            horizon=options.horizon,
            cell=build_cell(network),
            hidden_size=network.hidden,
            num_layers=network.layers,
            dropout=network.dropout,
            input_dropout=network.input_dropout,
            loss=_loss(options, options.horizon * len(options.target)),
            initial=initial(network),
            initialisers=initialisers(network),
        )
    except NotImplementedError as error:
        raise InputError(str(error)) from None
