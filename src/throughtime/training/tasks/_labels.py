"""Sequences with labels, and a classifier of them."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np

from ..._check import InputError
from ...data import Labels, SequenceStream, write_labels
from ...gradients import FullBPTT, TruncatedBPTT
from ...models import AbstractModel, SequenceClassifier
from .._build import build_cell, check_memory, gradient_of, initial, initialisers
from .._label_score import LabelScore, measure_labels, metrics
from .._trained_labels import TrainedClassifier, columns_of
from .._unit import Unit
from ..options import LabelsOptions, LabelsRun, LoopOptions, StackOptions
from ._base import AbstractTask, Told, ToldWhat


@final
class LabelsTask(AbstractTask):
    """Sequences with labels."""

    unit = Unit(label="nats a label", each="labels", cost="nats a label")
    sizes_from = "labels.json"
    sampled = "label sequences with: throughtime predict"

    def __init__(self, options: LabelsOptions, labels: Labels) -> None:
        self.options, self.labels = options, labels

    @classmethod
    def check(cls, run: LabelsRun) -> None:
        metrics()
        if run.network.bidirectional and not isinstance(gradient_of(run), FullBPTT | TruncatedBPTT):
            raise InputError(
                f"`bidirectional` is given with `gradient='{run.loop.gradient}'`; expected full or truncated: the others go "
                "through time step by step in one direction. Leave one out."
            )
        check_memory(lambda: _model(run.network, 1, 2, "sequence"), replace(run.loop, bptt=1))

    @classmethod
    def prepare(cls, folder: Path, run: LabelsRun, *, parent: AbstractTask | None, told: ToldWhat) -> "LabelsTask":
        labels = write_labels(
            run.labels.files[0],
            folder,
            columns_of(run.labels),
            each=run.labels.each,
            split=run.labels.split,
            parent=parent.labels if isinstance(parent, LabelsTask) else None,
            told=told,
        )
        task = cls(run.labels, labels)
        longest = int(task.stream(run.loop).sequences.lengths.max())
        if run.network.bidirectional:
            _refuse_windows(run, longest)
        check_memory(lambda: task.build_model(run.network), replace(run.loop, bptt=min(run.loop.bptt, longest)))
        return task

    @classmethod
    def open(cls, folder: Path, run: LabelsRun) -> "LabelsTask":
        return cls(run.labels, Labels(folder))

    def about(self) -> str:
        labels = self.labels
        sizes = "  ".join(f"{part} {len(labels.pieces.of(part)):,}" for part in ("train", "valid", "test"))
        few = ", ".join(labels.classes[:8]) + (" ..." if len(labels.classes) > 8 else "")
        return f"{len(labels.classes):,} classes ({few}), one a {labels.each}; {len(labels.features):,} features; sequences: {sizes}"

    def build_model(self, network: StackOptions) -> SequenceClassifier:
        return _model(network, len(self.labels.features), len(self.labels.classes), self.labels.each)

    def stream(self, loop: LoopOptions) -> SequenceStream:
        sequences = self.labels.sequences("train", self._weights)
        return SequenceStream(sequences, batch_size=loop.batch_size, window=loop.bptt, seed=loop.seed)

    def held_out(self) -> tuple[str, ...]:
        return tuple(part for part in ("valid", "test") if self._has_labels(part))

    def evaluate(self, model: AbstractModel, name: str, *, window: int, most: int | None, progress: Told) -> LabelScore:
        assert isinstance(model, SequenceClassifier), "build_model makes it"
        sequences = self.labels.sequences(name, self._weights, most=most)
        return measure_labels(model, sequences, self.labels.classes, window=window, progress=progress)

    def windows(self, part: str | None, *, streams: int, window: int) -> tuple[str, SequenceStream]:
        """The longest sequences of a part. One label a sequence stands at its end, so that a window must reach that far."""
        name = part or ("valid" if "valid" in self.held_out() else "train")
        sequences = self.labels.sequences(name, self._weights)
        longest = int(sequences.lengths.max(initial=1))
        if self.labels.each == "sequence" and window < longest:
            raise InputError(
                f"{window:,} steps are to be looked at, and the longest sequence of the {name} part has its label after {longest:,}; "
                f"expected {longest:,} or more."
            )
        return name, SequenceStream(sequences, batch_size=min(streams, len(sequences.lengths)), window=window)

    def facts(self) -> dict[str, str]:
        labels, pieces = self.labels, self.labels.pieces
        scales = {"mean": pieces.mean.tolist(), "scale": pieces.scale.tolist()}
        return {"labels": json.dumps({"classes": labels.classes, "each": labels.each, "features": labels.features} | scales)}

    @property
    def guess(self) -> float:
        """Of equal probabilities, with the weights of the classes in it."""
        shares = self.labels.counts / self.labels.counts.sum()
        return float((shares * self._weights).sum() * math.log(len(self.labels.classes)))

    def face(self, model: AbstractModel, options: LabelsRun, metrics: list[dict[str, Any]], folder: Path) -> TrainedClassifier:
        assert isinstance(model, SequenceClassifier), "build_model makes it"
        return TrainedClassifier(model, self.labels, options, metrics, folder)

    @property
    def _weights(self) -> np.ndarray:
        return self.labels.weights(self.options.class_weights)

    def _has_labels(self, part: str) -> bool:
        numbers = self.labels.pieces.of(part)
        if self.labels.each == "sequence":
            return len(numbers) > 0
        return any((own >= 0).any() for own in self.labels.sequences(part, self._weights).classes)


def _refuse_windows(run: LabelsRun, longest: int) -> None:
    """Two directions read whole sequences."""
    method = gradient_of(run)
    least = min(run.loop.bptt, method.k1 if isinstance(method, TruncatedBPTT) else longest)
    if least < longest:
        raise InputError(
            f"`bidirectional` is given with windows of {least:,} steps, and the longest sequence has {longest:,}; expected whole ones, "
            f"as the second direction begins at their end. Give `bptt={longest}` or more, or leave `bidirectional` out."
        )


def _model(network: StackOptions, features: int, classes: int, each: Any) -> SequenceClassifier:
    network.check()
    try:
        return SequenceClassifier(
            features,
            classes,
            each=each,
            bidirectional=network.bidirectional,
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
