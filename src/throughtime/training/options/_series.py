"""The series of a table, and a run that forecasts them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

from ... import _numbers
from ..._errors import InputError
from ..flag import Flag
from ._loop import LoopOptions
from ._network import WIDEST, StackOptions
from ._optimiser import OptimiserOptions
from ._run import AnyRun, one_file
from ._words import COLUMNS, shares


@final
@dataclass(frozen=True)
class SeriesOptions:
    """The table and what is forecast."""

    shapes: ClassVar[tuple[str, ...]] = ("target", "features", "known_future", "horizon", "relative", "loss", "interval")
    form: ClassVar[str] = "columns"

    files: Annotated[tuple[Path, ...], Flag("FILE", positional=True)] = ()
    """A table: CSV with a line of names, or Parquet."""
    target: Annotated[tuple[str, ...], COLUMNS] = ()
    """The columns to forecast."""
    features: Annotated[tuple[str, ...], COLUMNS] = ()
    """More columns to read, up to the moment of a forecast."""
    known_future: Annotated[tuple[str, ...], COLUMNS] = ()
    """Columns that are known beforehand, such as holidays."""
    group: Annotated[str | None, Flag("COL", "the table is one series")] = None
    """The column that tells many series apart."""
    time: Annotated[str | None, Flag("COL", "a row is a step")] = None
    """The column of times."""
    horizon: int = 1
    """Steps to forecast at a time."""
    context: int = 24
    """Steps that are read before a forecast counts."""
    season: Annotated[int | None, Flag("STEPS", "what is usual for the step of time", rare=True)] = None
    """How long a season is: the seasonal-naive forecast repeats the last one."""
    split: Annotated[
        tuple[float, float, float],
        Flag(
            "TRAIN,VALID,TEST",
            read=shares,
            show=lambda shares: ",".join(f"{share:g}" for share in shares),
            wanted="three shares that add up to 1, or three numbers of steps, with commas between",
        ),
    ] = (0.7, 0.1, 0.2)
    """The time, from its start, for training, validation and test: shares, or numbers of steps."""
    relative: bool = True
    """Forecast the change since the last value, which suits series that drift; --no-relative: the value itself."""
    loss: Literal["squared", "absolute", "huber", "gaussian", "quantiles"] = "squared"
    """What training makes small; gaussian and quantiles give intervals."""
    interval: float = 0.8
    """The probability that an interval is to hold."""

    def check(self) -> None:
        """Refuse what means nothing."""
        one_file(self.files, "table", "throughtime train series table.csv --target COL")
        if not self.target:
            raise InputError("--target is not given; expected the column to forecast. Name it: --target COL")
        _numbers.positive("--horizon", self.horizon, most=100_000)
        _numbers.positive("--context", self.context, most=WIDEST)
        if self.season is not None:
            _numbers.positive("--season", self.season)
        if not 0 < self.interval < 1:
            raise InputError(f"--interval is {self.interval!r}; expected a probability above 0 and below 1, such as 0.8.")
        if sum(self.split) <= 1 + 1e-6:
            _numbers.split(self.split)
        elif self.split[0] < 1 or any(n < 0 or n != int(n) for n in self.split):
            told = ",".join(f"{n:g}" for n in self.split)
            raise InputError(f"--split is {told}; expected three shares that add up to 1, or three numbers of steps, such as 700,100,200.")


@final
@dataclass(frozen=True)
class SeriesRun(AnyRun):
    """All that is chosen of a forecaster's training run."""

    task = "series"

    series: SeriesOptions
    network: StackOptions
    optimiser: OptimiserOptions
    loop: LoopOptions
