"""What the loop, the run folder and the shell ask of a task. They know nothing else of it.

A task is what a run is about: where its batches come from, which model reads them, and how the model is measured. It is opened on a run
folder. ``_loop.py``, ``_step.py``, checkpoints and reports serve every task alike.
"""

import abc
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from ...data import AbstractStream
from ...models import AbstractModel
from .._score import AbstractScore
from .._unit import Unit

Told = Callable[[int, int], None]  # done, in all
ToldWhat = Callable[[str, int, int], None]  # what is being done, done, in all


class AbstractTask(abc.ABC):
    """A task, opened on a run folder.

    Attributes:
        unit: how its loss is told.
        sizes_from: which file beside config.json says the model's sizes.
        sampled: what to type next, without the run's name.
    """

    unit: ClassVar[Unit]
    sizes_from: ClassVar[str]
    sampled: ClassVar[str]

    @classmethod
    @abc.abstractmethod
    def check(cls, run: Any) -> None:
        """Refuse what means nothing beyond ``run.check()``, before anything is read."""

    @classmethod
    @abc.abstractmethod
    def prepare(cls, folder: Path, run: Any, *, parent: "AbstractTask | None", told: ToldWhat) -> "AbstractTask":
        """Read the run's data into a new folder.

        Args:
            folder: empty.
            run: the options.
            parent: the task of the run that this one goes on from; its symbols, scales or labels are kept.
            told: progress.
        """

    @classmethod
    @abc.abstractmethod
    def open(cls, folder: Path, run: Any) -> "AbstractTask":
        """What ``prepare`` wrote, as far as the model's sizes need it."""

    @abc.abstractmethod
    def about(self) -> str:
        """The data in a line: sizes and parts."""

    @abc.abstractmethod
    def build_model(self, network: Any) -> AbstractModel:
        """The model, its weights drawn from torch's global generator."""

    @abc.abstractmethod
    def stream(self, loop: Any) -> AbstractStream:
        """The batches of training.

        Raises:
            InputError: too little data for the sizes of ``loop``.
        """

    @abc.abstractmethod
    def held_out(self) -> tuple[str, ...]:
        """Which of "valid" and "test" can be measured."""

    @abc.abstractmethod
    def evaluate(self, model: AbstractModel, name: str, *, window: int, most: int | None, progress: Told) -> AbstractScore:
        """Measure the model on the part ``name``, of which at most ``most`` steps are read."""

    @abc.abstractmethod
    def windows(self, part: str | None, *, streams: int, window: int) -> tuple[str, AbstractStream]:
        """A part of the data as streams from its start, and the part's name; None: validation, or the largest part where it is empty.

        Raises:
            InputError: the part is too short.
        """

    @abc.abstractmethod
    def facts(self) -> dict[str, str]:
        """What a program that runs the exported model must know of the data, in words and JSON."""

    @property
    @abc.abstractmethod
    def guess(self) -> float:
        """The loss of a model that has learned nothing of the order of things; a training that ends far above it has failed."""

    def written(self, model: AbstractModel, generator: torch.Generator) -> str | None:
        """A line that the model writes, if it writes."""
        return None

    @abc.abstractmethod
    def face(self, model: AbstractModel, options: Any, metrics: list[dict[str, Any]], folder: Path) -> Any:
        """What ``tt.load`` returns."""
