"""How well a classifier labels sequences: accuracy, F1 and the confusion of classes, as scikit-learn has them.

n labels · C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from .._check import InputError
from ..data import LabelSequences, SequenceStream
from ..models import SequenceClassifier
from ._score import AbstractScore
from ._unit import number
from ._walk import walk

_STREAMS = 64
_FEW = 12  # classes that have a row of their own
_DRAWN = 40  # classes whose names stand beside the picture


def metrics() -> Any:
    """scikit-learn's scores.

    Raises:
        InputError: it is not installed.
    """
    try:
        from sklearn import metrics
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("sklearn", "scipy"):
            raise
        raise InputError(
            "the package scikit-learn is not installed; expected it, as labels are scored with it. Install it with: pip install "
            "'throughtime[labels]'."
        ) from None
    return metrics


@final
@dataclass(frozen=True)
class LabelScore(AbstractScore):
    """The labels that were found beside the true ones.

    Attributes:
        mean_loss: of a label, with the class weights of training.
        truth, found: (n,) class numbers.
        classes: their names.
    """

    mean_loss: float
    truth: np.ndarray
    found: np.ndarray
    classes: tuple[str, ...]

    @property
    def loss(self) -> float:
        return self.mean_loss

    @cached_property
    def accuracy(self) -> float:
        """The share of labels that are right."""
        return float(metrics().accuracy_score(self.truth, self.found))

    @cached_property
    def f1(self) -> float:
        """The mean of the classes' F1, over the classes that occur or were found ("macro")."""
        return float(metrics().f1_score(self.truth, self.found, average="macro", zero_division=0))

    @property
    def confusion(self) -> np.ndarray:
        """(C, C) labels of class i that were taken for class j."""
        return metrics().confusion_matrix(self.truth, self.found, labels=range(len(self.classes)))

    def by_class(self) -> dict[str, dict[str, float]]:
        """Precision, recall, F1 and the number of labels of each class."""
        numbers = metrics().precision_recall_fscore_support(self.truth, self.found, labels=range(len(self.classes)), zero_division=0)
        names = ("precision", "recall", "f1", "labels")
        return {
            name: dict(zip(names, map(float, row), strict=True)) for name, row in zip(self.classes, zip(*numbers, strict=True), strict=True)
        }

    def as_dict(self) -> dict[str, Any]:
        return {"loss": self.mean_loss, "accuracy": self.accuracy, "f1_macro": self.f1, "labels": len(self.truth)}

    def line(self) -> str:
        return f"loss {number(self.mean_loss, 4)}  accuracy {self.accuracy:.2%}  F1 {self.f1:.3f}"

    def table(self, name: str) -> dict[str, dict[str, str]]:
        n = len(self.truth)
        whole = {"accuracy": f"{self.accuracy:.2%}", "F1": f"{self.f1:.4f}", "loss": number(self.mean_loss, 4), "labels": f"{n:,}"}
        rows = {name: whole}
        if len(self.classes) <= _FEW:
            for label, found in self.by_class().items():
                cells = {"F1": f"{found['f1']:.4f}", "precision": f"{found['precision']:.4f}", "recall": f"{found['recall']:.4f}"}
                rows[f"{name}, {label}"] = cells | {"labels": f"{found['labels']:,.0f}"}
        rows[f"{name}, commonest class"] = {"accuracy": f"{np.bincount(self.truth).max() / n:.2%}"}
        return rows

    def draw(self, path: Path) -> None:
        """A picture of the confusion: rows are true classes, their shares in colour, the counts in figures."""
        from matplotlib.figure import Figure

        counts, C = self.confusion, len(self.classes)
        side = min(10.0, 2.5 + 0.45 * C)
        figure = Figure(figsize=(side + 0.8, side), layout="constrained")
        axes = figure.subplots()
        shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if C <= _DRAWN:
            axes.set_xticks(range(C), self.classes, rotation=90 if max(map(len, self.classes)) > 3 else 0)
            axes.set_yticks(range(C), self.classes)
        if C <= _FEW:
            for i, j in np.ndindex(C, C):
                axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black", fontsize=8)
        axes.set(xlabel="found", ylabel="true", title=f"{len(self.truth):,} labels, {self.accuracy:.1%} of them right")
        figure.colorbar(image, label="share of the true class", shrink=0.8)
        aside = path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            figure.savefig(aside, dpi=120)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def measure_labels(
    model: SequenceClassifier,
    sequences: LabelSequences,
    classes: Sequence[str],
    *,
    window: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LabelScore:
    """Label every sequence, or every step that has a label.

    Args:
        model: put in evaluation mode meanwhile.
        sequences: with their labels.
        classes: their names.
        window: steps at a time; the score does not depend on it. A bidirectional model reads whole sequences.
        progress: told windows done and in all.

    Raises:
        InputError: there is no label.
    """
    stream = _stream(model, sequences, window)
    total, truth, found = 0.0, list[np.ndarray](), list[np.ndarray]()
    for _, batch, hs in walk(model, stream, progress):
        with torch.no_grad():
            total += float(model.losses(hs, batch).double().sum())
            counts = batch.counts()
            truth.append(batch.known_targets()[counts].cpu().numpy())
            found.append(model.head(hs[counts]).argmax(-1).cpu().numpy())
    all_true = np.concatenate(truth)
    if not len(all_true):
        raise InputError("there is no label to measure; expected some. Give the part a larger share with --split.")
    return LabelScore(total / len(all_true), all_true, np.concatenate(found), tuple(classes))


def find_labels(model: SequenceClassifier, sequences: LabelSequences, *, window: int) -> list[np.ndarray]:
    """The probabilities of the classes for each sequence, (1, C), or for each of its steps, (T, C)."""
    C, single = model.classes, model.each == "sequence"
    found = [np.zeros((1 if single else int(n), C)) for n in sequences.lengths]
    for places, _, hs in walk(model, _stream(model, sequences, window), lambda done, total: None):
        with torch.no_grad():
            p = model.head.predict(hs).double().cpu().numpy()
        for b, (i, start, stop) in enumerate(places):
            if stop <= start:
                continue
            if not single:
                found[i][start:stop] = p[: stop - start, b]
            elif stop == sequences.lengths[i]:
                found[i][0] = p[stop - start - 1, b]
    return found


def _stream(model: SequenceClassifier, sequences: LabelSequences, window: int) -> SequenceStream:
    longest = int(sequences.lengths.max(initial=1))
    return SequenceStream(
        sequences, batch_size=min(_STREAMS, max(1, len(sequences.lengths))), window=longest if model.bidirectional else window
    )
