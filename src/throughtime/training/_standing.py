"""Where a run stands, and how that comes to the disk and back.

Weights, moments, carry and progress change together, while a lock is held: whoever holds it sees the state after a whole step.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

import torch

from .._check import InputError
from ..gradients import AbstractGradient, Carry
from ..models import AbstractModel
from ._files import read_tensors, write_tensors
from ._folder import RunFolder
from ._generators import generator_states
from ._report import Report
from ._state import Progress, load_state, save_state


@final
class Standing:
    """All that changes from step to step.

    Attributes:
        carry: of the gradient method, after the last step.
        progress: after the last step, or the last validation; always the same object.
        generators: likewise.
        report: its rows are flushed before the state is saved.
        saved_at: when the state was saved last.
        saved_step: the step that is saved.
        changing: the lock, to be held where the state changes outside of a step.
    """

    def __init__(self, folder: RunFolder, model: AbstractModel, optimizer: torch.optim.Optimizer) -> None:
        self.folder, self.model, self.optimizer = folder, model, optimizer
        self.carry: Carry | None = None
        self.progress, self.generators = Progress(), generator_states()
        self.report: Report | None = None
        self.saved_at, self.saved_step = time.monotonic(), 0
        self.changing, self._in_step = threading.Lock(), False
        optimizer.register_step_pre_hook(lambda *_: self._begin_change())

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step is taken inside; from the optimiser's part on, the lock is held."""
        try:
            yield
        finally:
            if self._in_step:
                self._in_step = False
                self.changing.release()

    def _begin_change(self) -> None:
        self.changing.acquire()
        self._in_step = True

    def take_up(self, gradient: AbstractGradient) -> list[str]:
        """Load what is saved, for a method to go on with: the save before it where it is damaged.

        Returns:
            What was damaged, and what has taken its place.

        Raises:
            InputError: both saves are damaged, or the carry is another method's.
        """
        mended = []
        try:
            self.load(self.folder.state)
        except InputError as damage:
            try:
                self.load(self.folder.previous_state)
            except InputError:
                raise damage from None
            step = f"{self.progress.step:,}"
            mended.append(f"{self.folder.state} is damaged or missing; the run goes on from the save before it, after step {step}")
        if self.carry is not None and self.carry.kept and self.carry.made_by != gradient.carry_owner:
            raise InputError(
                f"the run was saved by {self.carry.made_by} and is to go on with {gradient!r}; expected the same, since it keeps more "
                "than the state from step to step. Give `clip_step` as before."
            )
        return mended + self._mend_best()

    def load(self, path: Path) -> None:
        """Put everything back as a file has it, torch's generators too."""
        self.carry, saved = load_state(path, self.model, self.optimizer)
        vars(self.progress).update(vars(saved))
        self.saved_step, self.generators = saved.step, generator_states()

    def _mend_best(self) -> list[str]:
        """Where the best weights are damaged, the latest take their place until a validation finds better ones."""
        try:
            read_tensors(self.folder.model)
            return []
        except InputError:
            self.progress.best = None
            self._save_model()
            return [f"{self.folder.model} is damaged or missing; the latest weights take its place until the next validation"]

    def save(self) -> None:
        """Everything that --resume needs; until there is a validation, the latest weights are the best."""
        with self.changing:
            self._save()

    def _save(self) -> None:
        if self.report is not None:
            self.report.flush()  # before the state: the next resume drops a row too many, and cannot bring back one too few
        if self.progress.best is None:
            self._save_model()
        self.save_state()
        self.saved_at = time.monotonic()

    def save_state(self) -> None:
        """``state.safetensors`` alone.

        Raises:
            NonFinite: a weight is not a finite number; what was saved before stands.
        """
        folder = self.folder
        save_state(folder.state, self.model, self.optimizer, self.carry, self.generators, self.progress, folder.previous_state)
        self.saved_step = self.progress.step

    def _save_model(self) -> None:
        """``model.safetensors``, from the weights as they are."""
        about = {"step": self.progress.step, f"valid_{self.folder.unit.score}": self.progress.best}
        write_tensors(self.folder.model, dict(self.model.named_parameters()), about)

    def keep_best(self, loss: float, report: Report) -> None:
        """``model.safetensors`` and what it costs; where it cannot be written, the best that was written remains the best."""
        p = self.progress
        before = p.best, p.best_step
        p.best, p.best_step = loss, p.step
        try:
            self._save_model()
        except OSError as error:
            p.best, p.best_step = before
            report.tell(f"step {p.step:,}  cannot save the best weights ({error.strerror or error}); training goes on")

    def rescue(self) -> int:
        """Save the state after the last whole step, from another thread, and let no step end any more; the step that is saved.

        For whoever is about to end the process: a step may take minutes, and it changes nothing before its end.
        """
        self.changing.acquire()
        if self.saved_step != self.progress.step:
            self._save()
        return self.saved_step
