"""Where a run stands, and how that comes to the disk and back.

Weights, moments, carry and progress change together, while a lock is held: whoever holds it sees the state after a whole step.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

import torch

from .._check import InputError
from ..gradients import AbstractGradient, Carry
from ..models import AbstractModel
from ._dealt import dealt, gathered
from ._files import read_tensors, write_tensors
from ._folder import RunFolder
from ._generators import generator_states
from ._ranks import Ranks
from ._report import AbstractReport
from ._state import Loaded, Progress, load_state, save_state


@final
class Standing:
    """All that changes from step to step.

    Args:
        folder: the run.
        model: its weights change.
        optimizer: its moments change.
        gradient: the method, as its user wrote it.
        ranks: the processes that share the training; all of them save and load together, and the first writes.

    Attributes:
        carry: of the gradient method, after the last step.
        progress: after the last step, or the last validation; always the same object.
        generators: likewise.
        report: its rows are flushed before the state is saved.
        saved_at: when the state was saved last.
        saved_step: the step that is saved.
        changing: the lock, to be held where the state changes outside of a step.
    """

    def __init__(
        self, folder: RunFolder, model: AbstractModel, optimizer: torch.optim.Optimizer, gradient: AbstractGradient, ranks: Ranks
    ) -> None:
        self.folder, self.model, self.optimizer = folder, model, optimizer
        self._gradient, self._ranks = gradient, ranks
        self.carry: Carry | None = None
        self.progress, self.generators = Progress(), generator_states()
        self.report: AbstractReport | None = None
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

    def take_up(self) -> list[str]:
        """Load what is saved; the save before it where it is damaged.

        Returns:
            What was damaged, and what has taken its place.

        Raises:
            InputError: both saves are damaged, the carry is another method's, or it cannot be dealt to as many ranks.
        """
        mended = []
        try:
            loaded = load_state(self.folder.state, self.model, self.optimizer)
        except InputError as damage:
            try:
                loaded = load_state(self.folder.previous_state, self.model, self.optimizer)
            except InputError:
                raise damage from None
            step = f"{loaded.progress.step:,}"
            mended.append(f"{self.folder.state} is damaged or missing; the run goes on from the save before it, after step {step}")
        self._take(loaded)
        if self.carry is not None and self.carry.kept and self.carry.made_by != self._ranks.method(self._gradient).carry_owner:
            raise InputError(
                f"the run was saved by {self.carry.made_by} and is to go on with {self._gradient!r}; expected the same, since it keeps "
                "more than the state from step to step. Give `clip_step` as before."
            )
        return mended + (self._mend_best() if self._ranks.first else [])

    def agree(self) -> None:
        """All ranks have taken up the same state.

        Raises:
            InputError: they have not.
        """
        step, self.progress.best = self._ranks.share((self.saved_step, self.progress.best))
        if step != self.saved_step:
            raise InputError(
                f"{self.folder.path} has the state after step {self.saved_step:,} here, and after step {step:,} for the first process; "
                "expected a folder that all processes share. Put it on a file system that all machines see."
            )

    def go_back(self) -> None:
        """Put everything back as it was saved last, torch's generators too."""
        self._take(load_state(self.folder.state, self.model, self.optimizer))

    def _take(self, loaded: Loaded) -> None:
        self.carry = dealt(self._ranks, loaded, self._gradient, self.folder.config.loop.seed)
        vars(self.progress).update(vars(loaded.progress), ranks=self._ranks.size)
        self.saved_step, self.generators = loaded.progress.step, generator_states()

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
        self.save_state(self._best_and_rows)
        self.saved_at = time.monotonic()

    def _best_and_rows(self) -> None:
        if self.report is not None:
            self.report.flush()  # before the state: the next resume drops a row too many, and cannot bring back one too few
        if self.progress.best is None:
            self._save_model()

    def save_state(self, before: Callable[[], object] = lambda: None) -> None:
        """``state.safetensors`` alone; ``before`` is done before it is written, by the process that writes it.

        Raises:
            NonFinite: a weight is not a finite number; what was saved before stands.
        """
        folder = self.folder
        carry, own = gathered(self._ranks, self.carry, self.generators, self._gradient)  # before anything can fail on one rank alone
        if self._ranks.first:
            before()
            save_state(folder.state, self.model, self.optimizer, carry, self.generators, self.progress, folder.previous_state, own)
        self.saved_step = self.progress.step

    def _save_model(self) -> None:
        """``model.safetensors``, from the weights as they are."""
        about = {"step": self.progress.step, f"valid_{self.folder.unit.score}": self.progress.best}
        write_tensors(self.folder.model, dict(self.model.named_parameters()), about)

    def keep_best(self, loss: float, report: AbstractReport) -> None:
        """``model.safetensors`` and what it costs; where it cannot be written, the best that was written remains the best."""
        p = self.progress
        before = p.best, p.best_step
        p.best, p.best_step = loss, p.step
        try:
            if self._ranks.first:
                self._save_model()
        except OSError as error:
            p.best, p.best_step = before
            report.tell(f"step {p.step:,}  cannot save the best weights ({error.strerror or error}); training goes on")
        p.best, p.best_step = self._ranks.share((p.best, p.best_step))

    def rescue(self) -> int:
        """Save the state after the last whole step, from another thread, and let no step end any more; the step that is saved.

        For whoever is about to end the process: a step may take minutes, and it changes nothing before its end. Only where there is one
        process: several save after a step that all of them have taken.
        """
        assert self._ranks.size == 1, "the others would have to save at the same moment"
        self.changing.acquire()
        if self.saved_step != self.progress.step:
            self._save()
        return self.saved_step
