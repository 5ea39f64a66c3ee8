"""Pieces of frames, and a model that predicts the next frame."""

import json
import math
from pathlib import Path
from typing import Any, final

from ..._check import InputError
from ...data import Frames, SequenceStream, write_frames
from ...models import AbstractModel, BinaryCrossEntropy, FrameModel, GaussianLikelihood
from .._build import build_cell, check_memory, initial, initialisers
from .._frame_score import FrameScore, measure_frames
from .._trained_frames import TrainedFrames
from .._unit import Unit
from ..options import FramesOptions, FramesRun, LoopOptions, StackOptions
from ._base import AbstractTask, Told, ToldWhat


@final
class FramesTask(AbstractTask):
    """Pieces of frames."""

    unit = Unit(label="nats a frame", each="frames", cost="nats a frame")
    sizes_from = "frames.json"
    sampled = "sample it with: throughtime sample"

    def __init__(self, options: FramesOptions, frames: Frames) -> None:
        self.options, self.frames = options, frames

    @classmethod
    def check(cls, run: FramesRun) -> None:
        check_memory(lambda: _model(run.network, 1, binary=True), run.loop)

    @classmethod
    def prepare(cls, folder: Path, run: FramesRun, *, parent: AbstractTask | None, told: ToldWhat) -> "FramesTask":
        frames = write_frames(
            run.frames.files[0],
            folder,
            keys=run.frames.key,
            split=run.frames.split,
            binary=None if run.frames.loss is None else run.frames.loss == "bernoulli",
            parent=parent.frames if isinstance(parent, FramesTask) else None,
            told=told,
        )
        task = cls(run.frames, frames)
        task.stream(run.loop)
        check_memory(lambda: task.build_model(run.network), run.loop)
        return task

    @classmethod
    def open(cls, folder: Path, run: FramesRun) -> "FramesTask":
        return cls(run.frames, Frames(folder))

    def about(self) -> str:
        pieces, kind = self.frames.pieces, "zeros and ones" if self.frames.binary else "real numbers"
        sizes = "  ".join(f"{part} {len(pieces.of(part)):,}" for part in ("train", "valid", "test"))
        return f"{len(pieces.values):,} frames of {self.frames.width:,} {kind}; pieces: {sizes}"

    def build_model(self, network: StackOptions) -> FrameModel:
        return _model(network, self.frames.width, binary=self.frames.binary)

    def stream(self, loop: LoopOptions) -> SequenceStream:
        frames = self.frames.next_frames("train", streams=loop.batch_size)
        if not frames.lengths.sum():
            raise InputError("no piece of the training part has two frames; expected one to predict the next from. Give longer pieces.")
        return SequenceStream(frames, batch_size=loop.batch_size, window=loop.bptt, seed=loop.seed)

    def held_out(self) -> tuple[str, ...]:
        return tuple(part for part in ("valid", "test") if self.frames.next_frames(part).lengths.sum())

    def evaluate(self, model: AbstractModel, name: str, *, window: int, most: int | None, progress: Told) -> FrameScore:
        assert isinstance(model, FrameModel), "build_model makes it"
        return measure_frames(model, self.frames.next_frames(name, most=most), window=window, offset=self.frames.offset, progress=progress)

    def windows(self, part: str | None, *, streams: int, window: int) -> tuple[str, SequenceStream]:
        name = part or ("valid" if "valid" in self.held_out() else "train")
        return name, SequenceStream(self.frames.next_frames(name, streams=streams), batch_size=streams, window=window)

    def facts(self) -> dict[str, str]:
        pieces = self.frames.pieces
        return {"frames": json.dumps({"binary": self.frames.binary, "mean": pieces.mean.tolist(), "scale": pieces.scale.tolist()})}

    @property
    def guess(self) -> float:
        """Of a coin for each number; of the Gaussian of the training part for each real one."""
        return self.frames.width * (math.log(2) if self.frames.binary else 0.5 * math.log(2 * math.pi) + 0.5)

    def face(self, model: AbstractModel, options: FramesRun, metrics: list[dict[str, Any]], folder: Path) -> TrainedFrames:
        assert isinstance(model, FrameModel), "build_model makes it"
        return TrainedFrames(model, self.frames, options, metrics, folder)


def _model(network: StackOptions, width: int, *, binary: bool) -> FrameModel:
    network.check()
    try:
        return FrameModel(
            width,
            loss=BinaryCrossEntropy() if binary else GaussianLikelihood(),
            cell=build_cell(network),
            hidden_size=network.hidden,
            num_layers=network.layers,
            dropout=network.dropout,
            input_dropout=network.input_dropout,
            initial=initial(network),
            initialisers=initialisers(network),
        )
    except NotImplementedError as error:
        raise InputError(str(error)) from None
