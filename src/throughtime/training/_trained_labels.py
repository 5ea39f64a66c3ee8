"""A trained classifier from Python: it labels sequences, and is measured on others.

T time · N sequences · I features · n labels · C classes.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from .. import _check
from .._check import InputError
from ..data import LabelColumns, Labels, LabelSequences, number_labels, read_labels
from ..models import SequenceClassifier
from ._files import write_text
from ._label_score import LabelScore, find_labels, measure_labels
from .options import LabelsOptions, LabelsRun


@final
@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels that a classifier gives.

    Attributes:
        ids: the sequence of each label.
        steps: the step of each label, from 0; None: one label a sequence.
        labels: the likeliest class of each.
        probabilities: (n, C) of all classes.
        classes: their names.
    """

    ids: list[str]
    steps: list[int] | None
    labels: list[str]
    probabilities: np.ndarray
    classes: tuple[str, ...]

    def to_csv(self) -> str:
        """A table: the sequence, the step where each has a label, the label, and the probability of every class."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["id", *(["step"] if self.steps is not None else []), "label", *(f"p_{name}" for name in self.classes)])
        for i, name in enumerate(self.ids):
            step = [] if self.steps is None else [self.steps[i]]
            writer.writerow([name, *step, self.labels[i], *(f"{p:.6g}" for p in self.probabilities[i])])
        return out.getvalue()


@final
@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """What ``throughtime train labels`` has made; ``load`` opens it.

    Attributes:
        model: the best weights, in evaluation mode.
        labels: the sequences that it was trained on, and their classes.
        options: all that was chosen.
        metrics: the rows of metrics.jsonl, a dict a row.
        folder: where it is.
    """

    model: SequenceClassifier
    labels: Labels
    options: LabelsRun
    metrics: list[dict[str, Any]] = field(repr=False)
    folder: Path

    def predict(self, data: np.ndarray | Path | str | None = None, lengths: Sequence[int] | None = None) -> Predictions:
        """The label of every sequence, or of every step.

        Args:
            data: sequences (N, T, I) in the units of the run's own file; or a file like it, with or without labels; None: the run's test
                part, or its validation part where it has none.
            lengths: of an array's sequences; None: all have T steps.

        Raises:
            InputError: a file that cannot be read, other features than in training, numbers that are not finite, lengths that do not fit.
        """
        if data is None:
            part = next(part for part in ("test", "valid", "train") if len(self.labels.pieces.of(part)))
            numbers = self.labels.pieces.of(part)
            pieces, ids = [self.labels.pieces.view(int(i)) for i in numbers], [self.labels.ids[i] for i in numbers]
        elif isinstance(data, np.ndarray):
            pieces, ids = self._cut(data, lengths), [str(i) for i in range(len(data))]
        else:
            pieces, ids, _ = self._of_file(Path(data), labelled=False)
        sequences = LabelSequences(pieces, [np.zeros(0, np.int32)] * len(pieces), self.labels.weights("none"))
        found = find_labels(self.model, sequences, window=self.options.loop.bptt)
        p, classes = np.concatenate(found), self.labels.classes
        steps = None if self.labels.each == "sequence" else [t for own in found for t in range(len(own))]
        names = [name for name, own in zip(ids, found, strict=True) for _ in range(len(own))]
        return Predictions(names, steps, [classes[c] for c in p.argmax(1)], p, tuple(classes))

    def evaluate(
        self,
        part: str | None = None,
        *,
        data: Path | str | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> LabelScore:
        """Accuracy, F1 and the confusion of classes.

        Args:
            part: "train", "valid" or "test" of the run's own sequences; None: "test".
            data: a file of labelled sequences in place of the run's own.
            progress: told how much is done, and of how much.

        Raises:
            InputError: no such part, or no label in it; a file that cannot be read, or with a label that training has not seen.
        """
        if data is not None and part is not None:
            raise InputError(f"data and the part {part!r} are given together; expected one of them. Leave one out.")
        part = part or "test"
        _check.one_of("part", part, ("train", "valid", "test"))
        weights = self.labels.weights(self.options.labels.class_weights)
        if data is None:
            sequences = self.labels.sequences(part, weights)
        else:
            pieces, _, numbers = self._of_file(Path(data), labelled=True)
            sequences = LabelSequences(pieces, numbers, weights)
        return measure_labels(self.model, sequences, self.labels.classes, window=self.options.loop.bptt, progress=progress)

    def _of_file(self, path: Path, *, labelled: bool) -> tuple[list[np.ndarray], list[str], list[np.ndarray]]:
        """The sequences of a file in the scale of training, their names, and the numbers of their labels."""
        file = read_labels(path, self._columns(path), each=self.labels.each if labelled else None, labelled=labelled)
        if len(file.features) != len(self.labels.features):
            raise InputError(f"{path} has {len(file.features):,} features; expected {len(self.labels.features):,}, as in training.")
        numbers = number_labels(path, file, self.labels.classes) if labelled else []
        return [self.labels.pieces.standardised(piece) for piece in file.pieces], file.ids, numbers

    def _columns(self, path: Path) -> LabelColumns:
        """As in training; a table has the features that were used there, whatever else it has."""
        columns = columns_of(self.options.labels)
        is_table = path.suffix.lower() not in (".npz", ".mat", ".npy")
        return LabelColumns(
            columns.label, self.labels.features if is_table else columns.features, columns.id, columns.time, columns.lengths
        )

    def _cut(self, data: np.ndarray, lengths: Sequence[int] | None) -> list[np.ndarray]:
        I = len(self.labels.features)
        if data.ndim != 3 or data.shape[2] != I or 0 in data.shape or data.dtype.kind not in "biuf":
            raise InputError(f"data is {data.dtype} {data.shape}; expected sequences (N, T, {I}) of numbers.")
        ends = [data.shape[1]] * len(data) if lengths is None else [int(n) for n in lengths]
        if len(ends) != len(data) or min(ends) < 1 or max(ends) > data.shape[1]:
            raise InputError(
                f"lengths are {len(ends):,} from {min(ends, default=0)} to {max(ends, default=0)}; expected {len(data):,} from 1 to "
                f"{data.shape[1]}."
            )
        pieces = [sequence[:n] for sequence, n in zip(data, ends, strict=True)]
        if not all(np.isfinite(piece).all() for piece in pieces):
            raise InputError("data has numbers that are not finite; expected finite ones. Fill them in, or leave such sequences out.")
        return [self.labels.pieces.standardised(piece) for piece in pieces]


def columns_of(options: LabelsOptions) -> LabelColumns:
    """What of a file is what."""
    return LabelColumns(options.label, options.features, options.id, options.time, options.lengths)


def write_predictions(found: Predictions, path: Path) -> None:
    """The table, as a whole or not at all."""
    write_text(path, found.to_csv())
