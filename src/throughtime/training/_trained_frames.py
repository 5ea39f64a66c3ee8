"""A trained model of frames from Python: pieces go on as it has learned, and it is measured on others.

T time · D width of a frame.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from .. import _check
from .._check import InputError
from ..data import Frames, NextFrames, read_frames
from ..models import FrameModel
from ._files import write_bytes
from ._frame_score import FrameScore, measure_frames
from .options import FramesRun


@final
@dataclass(frozen=True, eq=False)
class TrainedFrames:
    """What ``throughtime train frames`` has made; ``load`` opens it.

    Attributes:
        model: the best weights, in evaluation mode.
        frames: the pieces that it was trained on.
        options: all that was chosen.
        metrics: the rows of metrics.jsonl, a dict a row.
        folder: where it is.
    """

    model: FrameModel
    frames: Frames
    options: FramesRun
    metrics: list[dict[str, Any]] = field(repr=False)
    folder: Path

    def sample(
        self, prompt: np.ndarray | Path | str | None = None, length: int = 100, *, temperature: float = 1.0, seed: int | None = None
    ) -> np.ndarray:
        """The frames of a piece, and ``length`` more that the model draws after them: (T + length, D), in the file's units.

        Args:
            prompt: frames (T, D), or a file of pieces, whose first one is gone on from; None: the first held-out piece.
            length: how many frames to draw.
            temperature: below 1: likelier frames; above: more surprising ones; 0: always the likeliest.
            seed: the same seed draws the same frames; None: others each time.

        Raises:
            InputError: a prompt of another width or kind of numbers, numbers that mean nothing.
        """
        begun = self._prompt(prompt)
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(_check.seed(seed))
        inputs = torch.from_numpy(self.frames.pieces.standardised(begun)).unsqueeze(1).to(self.model.head.weight.device)
        drawn = self.model.sample(inputs, length, temperature=temperature, generator=generator)
        whole = np.concatenate([begun, self.frames.pieces.raw(drawn[:, 0].double().cpu().numpy())])
        return whole.astype(np.uint8) if self.frames.binary else whole.astype(np.float32)

    def evaluate(
        self,
        part: str | None = None,
        *,
        data: Path | str | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> FrameScore:
        """The negative log-likelihood of a frame.

        Args:
            part: "train", "valid" or "test" of the run's own pieces; None: "test".
            data: a file of pieces in place of the run's own.
            progress: told how much is done, and of how much.

        Raises:
            InputError: no such part, or no piece of two frames in it; a file that cannot be read or has other frames.
        """
        if data is not None and part is not None:
            raise InputError(f"data and the part {part!r} are given together; expected one of them. Leave one out.")
        part = part or "test"
        _check.one_of("part", part, ("train", "valid", "test"))
        frames = self.frames.next_frames(part) if data is None else self._of_file(Path(data))
        window, offset = self.options.loop.bptt, self.frames.offset
        return measure_frames(self.model, frames, window=window, offset=offset, progress=progress)

    def _of_file(self, path: Path) -> NextFrames:
        pieces = [self._checked(str(path), piece) for those in read_frames(path, self.options.frames.key).values() for piece in those]
        return NextFrames([self.frames.pieces.standardised(piece) for piece in pieces])

    def _prompt(self, prompt: np.ndarray | Path | str | None) -> np.ndarray:
        if prompt is None:
            pieces = self.frames.pieces
            numbers = next(some for part in ("test", "valid", "train") if len(some := pieces.of(part)))
            return pieces.raw(np.array(pieces.view(int(numbers[0])), np.float64))
        if isinstance(prompt, np.ndarray):
            return self._checked("the prompt", prompt)
        found = read_frames(Path(prompt))
        return self._checked(str(prompt), next(iter(found.values()))[0])

    def _checked(self, name: str, piece: np.ndarray) -> np.ndarray:
        """A piece as this model knows them."""
        if piece.ndim != 2 or piece.shape[1] != self.frames.width or not len(piece):
            raise InputError(
                f"{name} has frames of shape {piece.shape}; expected (T, {self.frames.width}), as in training. Give such a piece."
            )
        if not np.isfinite(piece).all() or (self.frames.binary and not ((piece == 0) | (piece == 1)).all()):
            raise InputError(
                f"{name} has other numbers than the run learned from; expected {'0 and 1' if self.frames.binary else 'finite'}."
            )
        return piece.astype(np.float64)


def write_pieces_file(pieces: list[np.ndarray], path: Path) -> None:
    """Pieces of one length, as a whole or not at all: npy (T, D), or (N, T, D) of several; npz: piece_1, piece_2 and so on."""
    out = io.BytesIO()
    if path.suffix.lower() == ".npz":
        np.savez_compressed(out, **{f"piece_{i + 1}": piece for i, piece in enumerate(pieces)})  # type: ignore[arg-type]
    else:
        np.save(out, pieces[0] if len(pieces) == 1 else np.stack(pieces), allow_pickle=False)
    write_bytes(path, out.getvalue())
