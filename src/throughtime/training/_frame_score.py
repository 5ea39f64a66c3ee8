"""How well a model of frames predicts pieces.

    NLL = −(1/N) Σ_n ln p(x_{n,t+1} | x_{n,1} … x_{n,t})          over the N frames of all pieces but the first of each

in nats, the D numbers of a frame summed (Boulanger-Lewandowski et al. 2012; Bai et al. 2018).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch

from .._check import InputError
from ..data import NextFrames, SequenceStream
from ..models import FrameModel
from ._score import AbstractScore
from ._unit import number
from ._walk import walk

_STREAMS = 32


@final
@dataclass(frozen=True)
class FrameScore(AbstractScore):
    """The mean loss of a frame.

    Attributes:
        mean_loss: as in training: real numbers in the scale of the training part.
        frames: that were predicted.
        pieces: that they belong to.
        offset: Σ_d ln scale_d: what the loss becomes more in the file's own units.
    """

    mean_loss: float
    frames: int
    pieces: int
    offset: float

    @property
    def loss(self) -> float:
        return self.mean_loss

    @property
    def nll(self) -> float:
        """Nats a frame, in the units of the file."""
        return self.mean_loss + self.offset

    def as_dict(self) -> dict[str, Any]:
        return {"loss": self.mean_loss, "nll_per_frame": self.nll, "frames": self.frames, "pieces": self.pieces}

    def line(self) -> str:
        return f"NLL {number(self.nll, 4)} nats a frame"

    def table(self, name: str) -> dict[str, dict[str, str]]:
        return {name: {"NLL a frame": number(self.nll, 4), "frames": f"{self.frames:,}", "pieces": f"{self.pieces:,}"}}


def measure_frames(
    model: FrameModel,
    frames: NextFrames,
    *,
    window: int,
    offset: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FrameScore:
    """Predict every frame but the first of each piece.

    Args:
        model: put in evaluation mode meanwhile.
        frames: of a part.
        window: steps at a time; the score does not depend on it.
        offset: as ``FrameScore.offset``.
        progress: told windows done and in all.

    Raises:
        InputError: no piece has two frames.
    """
    if not frames.lengths.sum():
        raise InputError("there is no piece of two frames or more to measure; expected some. Give it a larger share with --split.")
    stream, total, count = SequenceStream(frames, batch_size=min(_STREAMS, len(frames.lengths)), window=window), 0.0, 0
    for _, batch, hs in walk(model, stream, progress):
        with torch.no_grad():
            total, count = total + float(model.losses(hs, batch).double().sum()), count + batch.counted()
    return FrameScore(total / count, count, len(frames.lengths), offset)
