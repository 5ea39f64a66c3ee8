"""Sequences with labels: one for the whole sequence or one for each step; from padded arrays or a long table.

T time · N sequences · I features · C classes.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, final

import numpy as np

from .. import _check
from .._check import InputError
from ._arrays import as_lengths, as_numbers, choose, is_array_file, read_arrays, seen
from ._columns import TableFile, listed
from ._kept import kept_array
from ._pieces import Pieces, parts_of, write_pieces
from ._sequences import AbstractSequences, Steps
from ._series import PARTS

NO_LABEL = -100  # of a step, in arrays of whole numbers: torch's ignore_index
_NAMES = {"features": ("x", "X", "inputs", "features"), "label": ("y", "Y", "labels", "label"), "lengths": ("lengths",)}

Each = Literal["sequence", "step"]


@final
@dataclass(frozen=True)
class LabelColumns:
    """What of a file is what: columns of a table, or arrays of an npz or mat file.

    Attributes:
        label: None: "label" of a table; of arrays y or labels.
        features: of a table, none: all other columns that are not the id or the time. Of arrays one, x or inputs if none is named.
        id: of a table: the column that tells the sequences apart.
        time: of a table: the column that says the order of a sequence's rows; None: they are in order.
        lengths: of arrays: the steps of each sequence; None: "lengths" if it is there.
    """

    label: str | None = None
    features: tuple[str, ...] = ()
    id: str = "id"
    time: str | None = None
    lengths: str | None = None


@final
@dataclass(frozen=True)
class LabelledFile:
    """The sequences of a file.

    Attributes:
        features: the names of the I numbers of a step.
        pieces: (T, I) each, as the file has them: its type, and mapped where ``read_arrays`` maps.
        labels: of each sequence its label, or one a step; None: the step has none. Empty where the labels were not read.
        each: what has a label.
        ids: the name of each sequence.
        parts: of each, where the file says it.
        known: the classes in their order.
    """

    features: tuple[str, ...]
    pieces: list[np.ndarray]
    labels: list[list[str | None]]
    each: Each
    ids: list[str]
    parts: list[str] | None = None

    @property
    def known(self) -> list[str]:
        """The classes: numbers by size, words by the alphabet."""
        found = {label for labels in self.labels for label in labels if label is not None}
        return sorted(found, key=lambda word: (0, float(word), word) if _is_number(word) else (1, 0.0, word))


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def read_labels(path: Path, columns: LabelColumns, *, each: Each | None = None, labelled: bool = True) -> LabelledFile:
    """The sequences of a file and their labels.

    Arrays are x (N, T, I) or (N, T), y (N,) for a label a sequence or (N, T) for one a step, and ``lengths`` (N,). Arrays x_train,
    y_train, lengths_train and so on are the parts of the data. In whole numbers -100 stands for a step without a label. Rows of a table
    are steps; a sequence whose rows all have one label has that label.

    Args:
        path: npz, mat, CSV or Parquet.
        columns: what is what.
        each: what has a label; None: a sequence, if no sequence has two.
        labelled: read the labels too.

    Raises:
        InputError: a column or array that is not there, numbers that are not, labels that are missing, lengths that do not fit.
    """
    found = (_of_arrays if is_array_file(path) else _of_table)(path, columns, labelled)
    if not labelled:
        return found
    single = all(len(set(labels)) == 1 and labels[0] is not None for labels in found.labels)
    if found.each == "sequence" and each == "step":
        raise InputError(f"{path} has one label a sequence; expected one a step for --each step. Leave --each out.")
    if each == "sequence" and not single:
        i = next(i for i, labels in enumerate(found.labels) if len(set(labels)) != 1 or labels[0] is None)
        kinds = listed([str(label) for label in dict.fromkeys(found.labels[i])])
        raise InputError(
            f"{path}: the sequence {found.ids[i]!r} has the labels {kinds}; expected one for --each sequence. Use --each step."
        )
    each = each or (found.each if is_array_file(path) or not single else "sequence")
    labels = [labels[:1] for labels in found.labels] if each == "sequence" else found.labels
    return LabelledFile(found.features, found.pieces, labels, each, found.ids, found.parts)


def _of_table(path: Path, columns: LabelColumns, labelled: bool) -> LabelledFile:
    """A long table: a row a step."""
    table = TableFile(path)
    label = columns.label or "label"
    for flag, name in (("--id", columns.id), ("--time", columns.time), ("--label", label if labelled else None)):
        table.choose(flag, [name] if name else [])
    rest = [name for name in table.names() if name not in (columns.id, columns.time, label)]
    features = table.choose("--features", columns.features or rest)
    if not features:
        raise InputError(f"{path} has no column but {listed(table.names())}; expected features. Name them with --features.")
    values, names = table.whole_numbers(features), table.words(columns.id)
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(name, len(numbers)) for name in names])
    order = _order(table, columns, codes, names)
    bounds = np.concatenate(([0], np.cumsum(np.bincount(codes, minlength=len(numbers)))))
    words = table.labels(label) if labelled else []
    rows = [order[a:b] for a, b in pairwise(bounds)]
    labels = [[words[i] for i in own] for own in rows] if labelled else []
    return LabelledFile(tuple(features), [values[own] for own in rows], labels, "step", list(numbers))


def _order(table: TableFile, columns: LabelColumns, codes: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The rows, sequence by sequence, in the order of time."""
    if columns.time is None:
        return np.argsort(codes, kind="stable")
    times, _ = table.times(columns.time)
    order = np.lexsort((times, codes))
    twice = (np.diff(codes[order]) == 0) & (np.diff(times[order]) == 0)
    if twice.any():
        row = int(order[1:][twice][0])
        raise InputError(
            f"{table.where(columns.time, row)} is a time that the sequence {names[row]!r} has twice; expected each once. Leave a row out."
        )
    return order


def _of_arrays(path: Path, columns: LabelColumns, labelled: bool) -> LabelledFile:
    """Padded arrays, in one or in parts."""
    if path.suffix.lower() == ".npy":
        raise InputError(
            f"{path} is one array; expected sequences and their labels, in npz or mat, or a table. Save both with numpy.savez."
        )
    arrays = read_arrays(path)
    wanted = columns.features[0] if columns.features else None
    if len(columns.features) > 1:
        raise InputError(f"--features names {listed(columns.features)}; expected one array of {path}, (N, T, I). Name one.")
    groups = _groups(path, arrays, wanted)
    files = [_group(path, arrays, columns, name, part, labelled) for name, part in groups]
    parts = [part for file, (_, part) in zip(files, groups, strict=True) for _ in file.pieces] if groups[0][1] else None
    widths = {file.pieces[0].shape[1] for file in files}
    if len(widths) != 1:
        raise InputError(f"{path}: the parts have {listed([str(w) for w in sorted(widths)])} features; expected as many in each.")
    pieces, labels = [piece for file in files for piece in file.pieces], [own for file in files for own in file.labels]
    each: Each = "step" if any(file.each == "step" for file in files) else "sequence"
    return LabelledFile(files[0].features, pieces, labels, each, [str(i) for i in range(len(pieces))], parts)


def _groups(path: Path, arrays: Mapping[str, np.ndarray], wanted: str | None) -> list[tuple[str, str]]:
    """The arrays of features, and the part of each, "" where there is but one."""
    for name in [wanted] if wanted else _NAMES["features"]:
        if name in arrays:
            return [(name, "")]
        if f"{name}_train" in arrays:
            return [(f"{name}_{part}", part) for part in PARTS if f"{name}_{part}" in arrays]
    if wanted:
        choose(path, arrays, "--features", wanted)
    raise InputError(
        f"{path} has the arrays {listed(list(arrays))}; expected features called {listed(_NAMES['features'])}. Name them with --features."
    )


def _group(path: Path, arrays: Mapping[str, np.ndarray], columns: LabelColumns, name: str, part: str, labelled: bool) -> LabelledFile:
    """The sequences of one array of features."""
    suffix = f"_{part}" if part else ""
    x = arrays[name][..., None] if arrays[name].ndim == 2 else arrays[name]
    if x.ndim != 3 or 0 in x.shape:
        raise InputError(f"{path}: array {name!r} has shape {arrays[name].shape}; expected sequences (N, T, I) or (N, T).")
    N, T, I = x.shape
    lengths = np.full(N, T)
    if (own := _named(path, arrays, "lengths", columns.lengths, suffix)) is not None:
        lengths = as_lengths(path, own, arrays[own], N, T)
    pieces = [seen(path, f"{name}[{i}]", x[i, :n]) for i, n in enumerate(lengths)]
    features = tuple(f"{i}" for i in range(I))
    ids = [str(i) for i in range(N)]
    if not labelled:
        return LabelledFile(features, pieces, [], "sequence", ids)
    key = _named(path, arrays, "label", columns.label, suffix)
    if key is None:
        raise InputError(
            f"{path} has the arrays {listed(list(arrays))}; expected labels called {listed([n + suffix for n in _NAMES['label']])}. "
            "Name them with --label."
        )
    y = arrays[key]
    y = y.reshape(N) if y.size == N else y
    if y.shape not in ((N,), (N, T)):
        raise InputError(
            f"{path}: array {key!r} has shape {arrays[key].shape}; expected one label a sequence, ({N:,},), or a step, {(N, T)}."
        )
    each: Each = "sequence" if y.ndim == 1 else "step"
    rows = [y[i : i + 1] for i in range(N)] if each == "sequence" else [y[i, :n] for i, n in enumerate(lengths)]
    return LabelledFile(features, pieces, [_words(path, key, row, each) for row in rows], each, ids)


def _named(path: Path, arrays: Mapping[str, np.ndarray], what: str, wanted: str | None, suffix: str) -> str | None:
    """The name of an array, asked for or usual."""
    if wanted is not None:
        name = wanted + suffix if wanted + suffix in arrays else wanted
        choose(path, arrays, f"--{what}", name)
        return name
    return next((name + suffix for name in _NAMES[what] if name + suffix in arrays), None)


def _words(path: Path, key: str, row: np.ndarray, each: Each) -> list[str | None]:
    """Labels as words; None where a step has none."""
    if row.dtype.kind in "US":
        return [word if word else None for word in row.astype(str).tolist()]
    numbers = as_numbers(path, key, row)
    if (numbers != np.floor(numbers)).any():
        raise InputError(
            f"{path}: array {key!r} has the label {numbers[numbers != np.floor(numbers)][0]:g}; expected whole numbers or words."
        )
    words = {n: None if each == "step" and n == NO_LABEL else str(int(n)) for n in np.unique(numbers).tolist()}
    return [words[n] for n in numbers.tolist()]  # one word for all steps with the same label


@final
class Labels:
    """Sequences and labels in memory-mapped files, as ``write_labels`` leaves them in a folder.

    Attributes:
        pieces: the features, standardised on the training part.
        classes: their names, in the order of their numbers.
        each: what has a label.
        features: the names of the I numbers of a step.
        ids: the name of each sequence.
        counts: (C,) labels of each class in the training part.
    """

    def __init__(self, folder: Path) -> None:
        about = _check.json_file(folder / "labels.json")
        try:
            assert isinstance(about, dict)
            self.classes, self.ids = [str(name) for name in about["classes"]], [str(name) for name in about["ids"]]
            self.features, self.counts = tuple(map(str, about["features"])), np.array(about["counts"], np.int64)
            self.each: Each = about["each"]
            assert self.each in ("sequence", "step")
            self.pieces = Pieces(folder, about["pieces"])
            sizes = (len(self.counts), len(self.features), len(self.ids))
            assert sizes == (len(self.classes), len(self.pieces.mean), len(self.pieces.parts))
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder / 'labels.json'} is not what throughtime wrote ({error!r:.60}). Restore it, or train again."
            ) from None
        self.folder = folder

    def numbers(self) -> np.ndarray:
        """The number of each sequence's label (P,), or of each step's (N,), −1 where it has none; mapped."""
        wanted = len(self.ids) if self.each == "sequence" else len(self.pieces.values)
        found = kept_array(self.folder / "classes.npy", (wanted,), np.int32)
        if wanted and found.max() >= len(self.classes):
            path = self.folder / "classes.npy"
            raise InputError(f"{path} has a class {found.max():,}; expected below {len(self.classes):,}. Train again.")
        return found

    def weights(self, kind: Literal["none", "balanced"]) -> np.ndarray:
        """(C,) the weight of each class's loss: 1, or N / (C N_c), which makes every class weigh as much as any other."""
        if kind == "none":
            return np.ones(len(self.classes), np.float32)
        return (self.counts.sum() / (len(self.classes) * np.maximum(self.counts, 1))).astype(np.float32)

    def sequences(self, part: str, weights: np.ndarray, *, most: int | None = None) -> "LabelSequences":
        """The sequences of a part; ``most``: only the first ones, up to so many steps."""
        numbers = self.pieces.of(part)
        if most is not None:
            numbers = numbers[: max(1, int(np.searchsorted(np.cumsum(self.pieces.lengths(numbers)), most, side="right")))]
        pieces, each = self.pieces, self.numbers()
        classes = [each[i : i + 1] if self.each == "sequence" else each[pieces.bounds[i] : pieces.bounds[i + 1]] for i in numbers]
        return LabelSequences([pieces.view(int(i)) for i in numbers], classes, weights)


def write_labels(
    path: Path,
    folder: Path,
    columns: LabelColumns,
    *,
    each: Each | None = None,
    split: Sequence[float],
    parent: Labels | None = None,
    told: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Labels:
    """Read sequences and labels and keep them in a folder.

    Args:
        path: npz, mat, CSV or Parquet.
        folder: for labels.json and the arrays.
        columns: what is what.
        each: as ``read_labels``.
        split: shares of the sequences for training, validation and test, where the file does not say it; which sequence goes where is
            drawn, of each class the same share, and the same each time.
        parent: keep its classes, means and scales, as its weights expect them.
        told: progress.

    Raises:
        InputError: as ``read_labels``; one class only, a label that training does not have.
    """
    told("reading", 0, 2)
    file = read_labels(path, columns, each=each)
    kinds = [own[0] for own in file.labels] if file.each == "sequence" else [""] * len(file.pieces)
    parts = file.parts or parts_of(kinds, split, shuffled=True)
    if parent is not None and (file.features, file.each) != (parent.features, parent.each):
        raise InputError(
            f"{path} has {len(file.features):,} features and a label a {file.each}; expected {len(parent.features):,} and a label a "
            f"{parent.each}, as the run that --from names."
        )
    classes = parent.classes if parent is not None else _learned(path, file, parts)
    numbers = number_labels(path, file, classes)
    told("writing", 1, 2)
    about = write_pieces(folder, file.pieces, parts, standardise=True, parent=None if parent is None else parent.pieces)
    np.save(folder / "classes.npy", np.concatenate(numbers).astype(np.int32), allow_pickle=False)
    learned = np.concatenate([own for own, part in zip(numbers, parts, strict=True) if part == "train"])
    counts = np.bincount(learned[learned >= 0], minlength=len(classes)).tolist()
    own = {"classes": classes, "each": file.each, "features": file.features, "ids": file.ids, "counts": counts, "pieces": about}
    (folder / "labels.json").write_text(json.dumps(own))
    return Labels(folder)


def _learned(path: Path, file: LabelledFile, parts: Sequence[str]) -> list[str]:
    """The classes of the training part."""
    train = [own for own, part in zip(file.labels, parts, strict=True) if part == "train"]
    learned = LabelledFile(file.features, [], train, file.each, []).known
    if len(learned) < 2:
        what = f"the label {learned[0]!r} alone" if learned else "no label"
        raise InputError(f"{path} has {what} in its training part; expected two classes at least. Give sequences of another one.")
    return learned


def number_labels(path: Path, file: LabelledFile, classes: Sequence[str]) -> list[np.ndarray]:
    """The number of each label among the classes, −1 where a step has none.

    Raises:
        InputError: a label that is none of them.
    """
    known: dict[str | None, int] = {name: c for c, name in enumerate(classes)} | {None: -1}
    for own, name in zip(file.labels, file.ids, strict=True):
        for label in own:
            if label not in known:
                raise InputError(
                    f"{path}: the sequence {name!r} has the label {label!r}, which training has not seen; expected one of "
                    f"{listed(list(classes))}. Leave it out, or train with it."
                )
    return [np.array([known[label] for label in own], np.int32) for own in file.labels]


@final
class LabelSequences(AbstractSequences):
    """Sequences to learn the labels of.

    Args:
        pieces: (T, I) each, standardised.
        classes: of each (1,) for the sequence, or (T,) for its steps; −1: none.
        weights: (C,) of each class's loss.
    """

    def __init__(self, pieces: Sequence[np.ndarray], classes: Sequence[np.ndarray], weights: np.ndarray) -> None:
        self.pieces, self.classes, self.weights = pieces, classes, weights
        self.lengths = np.array([len(piece) for piece in pieces], np.int64)

    def read(self, i: int, start: int, stop: int) -> Steps:
        own, n = self.classes[i], int(self.lengths[i])
        labels = np.full(n, -1, np.int64)
        labels[n - len(own) :] = own
        here = labels[start:stop]
        weights = np.where(here >= 0, self.weights[here], 0).astype(np.float32)
        return Steps(np.array(self.pieces[i][start:stop]), np.maximum(here, 0), np.ones(stop - start, bool), weights)
