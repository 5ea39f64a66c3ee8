"""Pieces of frames: vectors, one a step, of which a model predicts the next; such as the notes of a piano roll.

Frame t is the input of step t, and frame t + 1 its target, so that every frame of a piece but its first is predicted.

T time · D width of a frame.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np

from .. import _check
from .._check import InputError
from ._arrays import as_lengths, choose, read_arrays, seen
from ._columns import listed
from ._pieces import Pieces, parts_of, write_pieces
from ._sequences import AbstractSequences, Steps
from ._series import PARTS

FrameParts = dict[str, list[np.ndarray]]  # "train" "valid" "test", or "" where the file does not say; (T, D) each, as it has them

_PART = re.compile("|".join(PARTS))


def read_frames(path: Path, keys: Sequence[str] = ()) -> FrameParts:
    """The pieces of a file, by the part that their names say.

    An array is a piece (T, D), or several (N, T, D), or with ``lengths`` several that are padded. A name that begins with train, valid or
    test says the part, as in Boulanger-Lewandowski's files (``traindata`` and so on, whose cells are pieces).

    Args:
        path: npy, npz or mat.
        keys: the arrays to read; none: all of them.

    Raises:
        InputError: as ``read_arrays``; no such array, other shapes, numbers that are not finite, pieces of different widths.
    """
    arrays = read_arrays(path)
    for key in keys:
        choose(path, arrays, "--key", key)
    found: FrameParts = {}
    for name in keys or [name for name in arrays if not name.endswith("lengths")]:
        part = _PART.match(name.lower())
        found.setdefault(part[0] if part else "", []).extend(_pieces(path, name, arrays))
    if "" in found and len(found) > 1:
        odd = next(name for name in keys or arrays if not _PART.match(name.lower()) and not name.endswith("lengths"))
        raise InputError(
            f"{path}: the name of array {odd!r} begins with none of {', '.join(PARTS)}, but others' do; expected all or none. Name the "
            "arrays to read with --key."
        )
    _refuse_widths(path, [piece for pieces in found.values() for piece in pieces])
    return found


def _pieces(path: Path, name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The pieces in one array."""
    array = arrays[name]
    if array.dtype == object:  # MATLAB's cells
        return [_piece(path, f"{name}{{{i + 1}}}", cell) for i, cell in enumerate(array.reshape(-1))]
    if array.ndim != 3 or 0 in array.shape[1:]:  # which is refused
        return [_piece(path, name, array)]
    own = next((key for key in (f"{name}_lengths", f"{name}lengths", "lengths") if key in arrays), None)
    lengths = [array.shape[1]] * len(array)
    if own is not None:
        lengths = as_lengths(path, own, arrays[own], len(array), array.shape[1]).tolist()
    return [_piece(path, f"{name}[{i}]", array[i, :n]) for i, n in enumerate(lengths)]


def _piece(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.ndim != 2 or 0 in array.shape:
        of = f"array {name!r}" if name else "the array"
        raise InputError(
            f"{path}: {of} has shape {getattr(array, 'shape', '?')}; expected pieces (T, D), or (N, T, D) of N of them. Name the arrays of "
            "pieces with --key."
        )
    return seen(path, name, array)


def _refuse_widths(path: Path, pieces: Sequence[np.ndarray]) -> None:
    widths = sorted({piece.shape[1] for piece in pieces})
    if len(widths) != 1:
        raise InputError(f"{path}: pieces have frames of {listed([str(w) for w in widths])} numbers; expected one width. Leave some out.")
    if max(len(piece) for piece in pieces) < 2:
        raise InputError(f"{path}: no piece has more than one frame; expected a frame to predict the next one from. Give longer pieces.")


@final
class Frames:
    """Pieces in memory-mapped files, as ``write_frames`` leaves them in a folder.

    Attributes:
        pieces: the frames; real ones are standardised.
        binary: every number is 0 or 1.
    """

    def __init__(self, folder: Path) -> None:
        about = _check.json_file(folder / "frames.json")
        try:
            assert isinstance(about, dict)
            self.binary = bool(about["binary"])
            self.pieces = Pieces(folder, about["pieces"])
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder / 'frames.json'} is not what throughtime wrote ({error!r:.60}). Restore it, or train again."
            ) from None

    @property
    def width(self) -> int:
        """D."""
        return len(self.pieces.mean)

    @property
    def offset(self) -> float:
        """Σ_d ln scale_d: −ln p of a frame in the file's own units is so much more than in those of training."""
        return float(np.log(self.pieces.scale).sum())

    def next_frames(self, part: str, *, streams: int = 1, most: int | None = None) -> "NextFrames":
        """The pieces of a part, "train", "valid" or "test", to be predicted."""
        return NextFrames([self.pieces.view(int(i)) for i in self.pieces.of(part)], streams=streams, most=most)


def write_frames(
    path: Path,
    folder: Path,
    *,
    keys: Sequence[str] = (),
    split: Sequence[float],
    binary: bool | None = None,
    parent: Frames | None = None,
    told: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Frames:
    """Read pieces and keep them in a folder.

    Args:
        path: npy, npz or mat.
        folder: for frames.json and the arrays.
        keys: the arrays to read; none: all of them.
        split: shares of the pieces, in their order, for training, validation and test, where the file does not say it; one piece is cut.
        binary: whether numbers are 0 and 1; None: what they look like.
        parent: keep its means and scales, as its weights expect them.
        told: progress.

    Raises:
        InputError: as ``read_frames``; other numbers than 0 and 1 where ``binary``; no piece for training.
    """
    told("reading", 0, 2)
    found = read_frames(path, keys)
    pieces, parts = _in_parts(path, found, split)
    looks = all(bool(((piece == 0) | (piece == 1)).all()) for piece in pieces)
    binary = looks if binary is None else binary
    if binary and not looks:
        worst = next(piece[(piece != 0) & (piece != 1)][0] for piece in pieces if ((piece != 0) & (piece != 1)).any())
        raise InputError(f"{path} has the number {worst:g}; expected 0 and 1 alone for --loss bernoulli. Use --loss gaussian.")
    if parent is not None and parent.width != pieces[0].shape[1]:
        raise InputError(f"{path} has frames of {pieces[0].shape[1]:,} numbers; expected {parent.width:,}, as the run that --from names.")
    told("writing", 1, 2)
    about = write_pieces(folder, pieces, parts, standardise=not binary, parent=None if parent is None else parent.pieces)
    (folder / "frames.json").write_text(json.dumps({"binary": binary, "pieces": about}))
    return Frames(folder)


def _in_parts(path: Path, found: FrameParts, split: Sequence[float]) -> tuple[list[np.ndarray], list[str]]:
    """All pieces, and the part of each."""
    if "" not in found:
        if not any(len(piece) > 1 for piece in found.get("train", [])):
            raise InputError(f"{path} has no piece for training; expected one of two frames or more whose name begins with train.")
        return [piece for part in PARTS for piece in found.get(part, [])], [part for part in PARTS for _ in found.get(part, [])]
    pieces = found[""]
    if len(pieces) > 1:
        return pieces, parts_of([""] * len(pieces), split, shuffled=False)
    ends = np.round(np.cumsum(split) * len(pieces[0])).astype(int)
    cut = zip(PARTS, np.split(pieces[0], ends[:2]), strict=True)
    parts, some = zip(*((part, piece) for part, piece in cut if len(piece)), strict=True)
    return list(some), list(parts)


@final
class NextFrames(AbstractSequences):
    """Pieces whose every frame is predicted from those before it, but for the first.

    Args:
        pieces: (T, D) each.
        streams: where there are fewer pieces, they are cut into so many, each of which starts anew.
        most: only the first pieces, up to so many frames.
    """

    def __init__(self, pieces: Sequence[np.ndarray], *, streams: int = 1, most: int | None = None) -> None:
        self.pieces = pieces
        steps = [max(len(piece) - 1, 0) for piece in pieces]
        longest = -(-sum(steps) // streams) if len(pieces) < streams else max(steps, default=0)
        cuts = [(i, a, min(a + longest, n)) for i, n in enumerate(steps) for a in range(0, n, max(1, longest))]
        if most is not None:
            kept = np.cumsum([stop - start for _, start, stop in cuts])
            cuts = cuts[: max(1, int(np.searchsorted(kept, most, side="right")))]
        self.cuts = cuts
        self.lengths = np.array([stop - start for _, start, stop in cuts], np.int64)

    def read(self, i: int, start: int, stop: int) -> Steps:
        piece, first, _ = self.cuts[i]
        frames = np.array(self.pieces[piece][first + start : first + stop + 1])
        return Steps(frames[:-1], frames[1:], np.ones(stop - start, bool))
