"""Pieces of frames, and a run that predicts the next frame."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

from ... import _numbers
from ..flag import Flag
from ._loop import LoopOptions
from ._network import StackOptions
from ._optimiser import OptimiserOptions
from ._run import AnyRun, one_file
from ._words import NAMES, SPLIT


@final
@dataclass(frozen=True)
class FramesOptions:
    """The pieces and what is predicted."""

    shapes: ClassVar[tuple[str, ...]] = ("loss",)
    form: ClassVar[str] = "frames"

    files: Annotated[tuple[Path, ...], Flag("FILE", positional=True)] = ()
    """Arrays, npy, npz or mat: pieces (T, D), or (N, T, D) with an array of lengths if they are padded. Arrays whose names begin with
    train, valid and test are these parts."""
    key: Annotated[tuple[str, ...], NAMES] = ()
    """The arrays to read, of a file that has others too."""
    loss: Annotated[Literal["bernoulli", "gaussian"] | None, Flag(unless="bernoulli if all numbers are 0 or 1, else gaussian")] = None
    """How each number of the next frame is distributed."""
    split: Annotated[tuple[float, float, float], SPLIT] = (0.8, 0.1, 0.1)
    """Shares of the pieces, in their order, for training, validation and test, where the file does not say it; one piece is cut."""

    def check(self) -> None:
        """Refuse what means nothing."""
        one_file(self.files, "file", "throughtime train frames rolls.npz")
        _numbers.split(self.split)


@final
@dataclass(frozen=True)
class FramesRun(AnyRun):
    """All that is chosen of the training run of a model of frames."""

    task = "frames"

    frames: FramesOptions
    network: StackOptions
    optimiser: OptimiserOptions
    loop: LoopOptions
