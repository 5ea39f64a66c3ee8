"""Pieces: sequences of vectors of one width, one after another in a memory-mapped file, each in one part of the data.

N steps of all pieces · D width · P pieces.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from .._check import InputError
from ._kept import kept_array
from ._series import PARTS


@final
class Pieces:
    """What ``write_pieces`` has left in a folder.

    Attributes:
        values: (N, D) float32, standardised, mapped.
        bounds: (P + 1,) where each begins.
        parts: (P,) the number of each one's part in ``PARTS``.
        mean, scale: (D,) from the training part.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        """
        Args:
            folder: of the files.
            about: what ``write_pieces`` returned.

        Raises:
            InputError: a file is missing, cut short or another one.
        """
        N, D, P = (int(about[name]) for name in ("steps", "width", "pieces"))
        self.mean, self.scale = np.array(about["mean"], np.float64), np.array(about["scale"], np.float64)
        assert self.mean.shape == self.scale.shape == (D,)
        self.values = kept_array(folder / "pieces.npy", (N, D), np.float32)
        self.bounds = np.array(kept_array(folder / "bounds.npy", (P + 1,), np.int64))
        self.parts = np.array(kept_array(folder / "parts.npy", (P,), np.uint8))
        if (np.diff(self.bounds) < 0).any() or self.bounds[0] != 0 or self.bounds[-1] != N:
            raise InputError(f"{folder / 'bounds.npy'} was changed: its numbers do not rise from 0 to {N:,}. Train again with --overwrite.")

    def of(self, part: str) -> np.ndarray:
        """The numbers of a part's pieces."""
        return np.flatnonzero(self.parts == PARTS.index(part))

    def lengths(self, numbers: np.ndarray) -> np.ndarray:
        """The steps of some pieces."""
        return self.bounds[numbers + 1] - self.bounds[numbers]

    def view(self, i: int) -> np.ndarray:
        """Piece i (T, D), standardised, not yet read."""
        return self.values[int(self.bounds[i]) : int(self.bounds[i + 1])]

    def standardised(self, piece: np.ndarray) -> np.ndarray:
        """Numbers as a file has them, in the scale of the training part."""
        return ((piece - self.mean) / self.scale).astype(np.float32)

    def raw(self, piece: np.ndarray) -> np.ndarray:
        """The way back."""
        return piece * self.scale + self.mean


def write_pieces(
    folder: Path, pieces: Sequence[np.ndarray], parts: Sequence[str], *, standardise: bool, parent: Pieces | None = None
) -> dict[str, Any]:
    """Keep pieces in a folder; what ``Pieces`` must know beside the files is returned.

    Args:
        folder: for pieces.npy, bounds.npy and parts.npy.
        pieces: (T, D) each.
        parts: the part of each.
        standardise: by the mean and the standard deviation of the training part, of each of the D numbers.
        parent: keep its means and scales.
    """
    bounds = np.concatenate(([0], np.cumsum([len(piece) for piece in pieces]))).astype(np.int64)
    width = pieces[0].shape[1]
    mean, scale = np.zeros(width), np.ones(width)
    if parent is not None:
        mean, scale = parent.mean, parent.scale
    elif standardise:
        mean, scale = _scales([piece for piece, part in zip(pieces, parts, strict=True) if part == "train"])
    values = np.lib.format.open_memmap(folder / "pieces.npy", "w+", np.float32, (int(bounds[-1]), width))
    for piece, first in zip(pieces, map(int, bounds), strict=False):
        values[first : first + len(piece)] = (piece - mean) / scale
    values.flush()
    np.save(folder / "bounds.npy", bounds, allow_pickle=False)
    np.save(folder / "parts.npy", np.array([PARTS.index(part) for part in parts], np.uint8), allow_pickle=False)
    sizes = {"steps": int(bounds[-1]), "width": width, "pieces": len(pieces)}
    return sizes | {"mean": mean.tolist(), "scale": scale.tolist()}


def _scales(pieces: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Over all steps; what is constant keeps its scale."""
    steps = sum(len(piece) for piece in pieces)
    mean = sum((piece.sum(0, dtype=np.float64) for piece in pieces), np.zeros(pieces[0].shape[1])) / steps
    squares = sum((np.square(piece - mean).sum(0) for piece in pieces), np.zeros_like(mean)) / steps
    scale = np.sqrt(squares)
    return mean, np.where(scale > 1e-12 * np.maximum(1, np.abs(mean)), scale, 1.0)


def parts_of(classes: Sequence[Any], shares: Sequence[float], *, shuffled: bool) -> list[str]:
    """Parts for pieces in the shares that are asked for, of each class the same share.

    Args:
        classes: of each piece.
        shares: of training, validation and test.
        shuffled: which piece goes where is drawn, the same each time; else the first ones are for training.

    >>> parts_of(["a"] * 4, (0.5, 0.25, 0.25), shuffled=False)
    ['train', 'train', 'valid', 'test']
    """
    order = np.random.default_rng(0).permutation(len(classes)) if shuffled else np.arange(len(classes))
    members: dict[Any, list[int]] = {}
    for i in order.tolist():
        members.setdefault(classes[i], []).append(i)
    ends, parts = np.cumsum(shares), ["train"] * len(classes)
    for those in members.values():
        for rank, i in enumerate(those):
            place = (rank + 0.5) / len(those)
            parts[i] = PARTS[min(2, int(np.searchsorted(ends - 1e-9, place, side="right")))]
    return parts
