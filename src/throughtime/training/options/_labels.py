"""Sequences with labels, and a run that learns to give them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

from ... import _numbers
from ..._errors import InputError
from ..flag import Flag
from ._loop import LoopOptions
from ._network import StackOptions
from ._optimiser import OptimiserOptions
from ._run import AnyRun, one_file
from ._words import COLUMNS, SPLIT


@final
@dataclass(frozen=True)
class LabelsOptions:
    """The sequences and their labels."""

    shapes: ClassVar[tuple[str, ...]] = ("each",)
    form: ClassVar[str] = "labels"

    files: Annotated[tuple[Path, ...], Flag("FILE", positional=True)] = ()
    """Arrays, npz or mat: x (N, T, I), y (N,) or (N, T), and lengths (N,); x_train, y_train, x_test and so on are parts. Or a table, CSV or
    Parquet, a row a step."""
    label: Annotated[str | None, Flag("NAME", "label; of arrays, y or labels")] = None
    """The column or array of labels."""
    features: Annotated[tuple[str, ...], COLUMNS] = ()
    """The columns of numbers, or the array x; unless given, all columns that are nothing else."""
    id: Annotated[str, Flag("COL")] = "id"
    """The column of a table that tells the sequences apart."""
    time: Annotated[str | None, Flag("COL", "rows are in order")] = None
    """The column of a table that says the order of a sequence's rows."""
    lengths: Annotated[str | None, Flag("NAME", "lengths, if it is there", rare=True)] = None
    """The array of the sequences' steps."""
    each: Annotated[Literal["sequence", "step"] | None, Flag(unless="a sequence, if none has two labels")] = None
    """What has a label."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: every class weighs as much as any other, however rare it is."""
    split: Annotated[tuple[float, float, float], SPLIT] = (0.8, 0.1, 0.1)
    """Shares of the sequences, drawn, for training, validation and test, where the file does not say it."""

    def check(self) -> None:
        """Refuse what means nothing."""
        one_file(self.files, "file", "throughtime train labels gestures.npz")
        _numbers.split(self.split)


@final
@dataclass(frozen=True)
class LabelsRun(AnyRun):
    """All that is chosen of a classifier's training run."""

    task = "labels"
    both_directions = True

    labels: LabelsOptions
    network: StackOptions
    optimiser: OptimiserOptions
    loop: LoopOptions

    def check(self) -> None:
        """Refuse what means nothing, before anything is read, built or made."""
        super().check()
        if not self.network.bidirectional:
            return
        for name, value in (("omega", self.optimiser.omega), ("clip_step", self.optimiser.clip_step), ("watch_flow", self.loop.watch_flow)):
            if value:
                raise InputError(
                    f"`{name}` is given with `bidirectional`; expected one direction, as it goes through time step by step. Leave one out."
                )
