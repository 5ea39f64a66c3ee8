"""The training loop of every task. It can be stopped after any step, and goes on to the same bits."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, final

import torch
from rich.console import Console

from .._bar import bar
from .._check import InputError, NonFinite
from .._console import put
from ..data import Batch
from ..gradients import Carry
from ..kernels import get_kernels, set_kernels
from ..models import AbstractModel
from ._build import device, gradient_of
from ._clip import AbstractClip, ClipNorm, ClipValue
from ._faults import MOST_ROLLBACKS, MOST_SKIPPED, RECENT, SLOWER, runs_away, usual
from ._files import load_parameters, read_tensors, write_tensors
from ._folder import RunFolder
from ._generators import generator_states, set_generator_states
from ._optimisers import build_optimizer
from ._report import Report, TrainRow, draw_curves
from ._schedule import learning_rate
from ._score import AbstractScore
from ._state import Progress, load_state, refuse_non_finite, save_state
from ._step import step
from ._unit import number
from ._watch import measure_flow
from .options import LoopOptions, OptimiserOptions

_ROW_EVERY = 10  # steps
_EVAL_EVERY = 2000  # steps, where an epoch is longer
_HOPELESS = 1.5  # times what guessing costs: a validation worse than this is no longer learning's noise
_AT_THE_END = 10  # times as many steps are measured as at a validation in between


@final
@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        why: "unmeasured": it has finished, but somebody did not want to wait for the scores.
        step: steps done.
        scores: of the best weights on "valid" and "test", where there are such sections.
        diverged: the last validation's loss where guessing would have cost clearly less; None: it went well.
    """

    why: Literal["finished", "interrupted", "unmeasured"]
    step: int
    scores: dict[str, AbstractScore]
    diverged: float | None = None


@final
@dataclass(frozen=True)
class Budget:
    """How long to train: a number of steps, or of seconds."""

    steps: int | None
    seconds: float | None

    @classmethod
    def of(cls, options: LoopOptions, steps_an_epoch: int) -> "Budget":
        """10 epochs where nothing is asked for."""
        if options.minutes is not None:
            return cls(None, 60 * options.minutes)
        return cls(options.steps if options.steps is not None else (options.epochs or 10) * steps_an_epoch, None)

    def spent(self, progress: Progress) -> float:
        """The share that is spent; 1 or more: stop."""
        return progress.step / self.steps if self.steps is not None else progress.seconds / (self.seconds or math.inf)

    def seconds_left(self, progress: Progress) -> float:
        """As the past goes."""
        spent = self.spent(progress)
        return progress.seconds * (1 - spent) / spent if spent else math.inf


def begin(folder: RunFolder, weights: Path | None = None) -> None:
    """Give a new run its first weights and state: from then on it can be gone on with.

    Args:
        folder: a run folder with its options and its data.
        weights: the model.safetensors of another run to begin with; None: drawn from the seed.

    Raises:
        InputError: the data is too short, or the weights are another network's.
        OSError: the disk is full.
    """
    with _settings(folder.config.loop):
        training = Training(folder)
        if weights is not None:
            load_parameters(weights, training.model, read_tensors(weights)[0])
        training.save()


def train(folder: RunFolder, *, console: Console, stop: Callable[[], bool] = lambda: False) -> Ended:
    """Train the folder's model on its data, from where its ``state.safetensors`` stands.

    The process's threads, kernels and generators are the run's meanwhile, and as before afterwards.

    Args:
        folder: a run folder that has begun.
        console: where progress is shown.
        stop: asked after every step, and while a validation or the final scores are measured.

    Raises:
        InputError: a state that does not belong here.
        NonFinite: the loss or gradient is no longer finite, and the run's options say to stop. The last good state is saved.
        OSError: what came of it cannot be written. The last state that was saved is whole.
    """
    with resumed(folder) as training:
        return training.run(console, stop)


@contextmanager
def resumed(folder: RunFolder) -> "Iterator[Training]":
    """A run where its saved state stands, ready to ``run``; the process's settings are the run's meanwhile."""
    with _settings(folder.config.loop):
        training = Training(folder)
        training.go_on()
        yield training


@contextmanager
def _settings(loop: LoopOptions) -> Iterator[None]:
    """Threads, kernels and generators of the process as the run wants them; as they were afterwards."""
    threads, kernels, generators = torch.get_num_threads(), get_kernels(), generator_states()
    try:
        if loop.threads is not None:
            torch.set_num_threads(loop.threads)
        set_kernels(loop.kernels)
        torch.manual_seed(loop.seed)
        yield
    finally:
        torch.set_num_threads(threads)
        set_kernels(kernels)
        set_generator_states(generators)


@final
class Training:
    """What the loop holds between steps.

    Weights, moments, carry and progress change together, while ``_gate`` is held: whoever holds it sees the state after a whole step.
    """

    def __init__(self, folder: RunFolder) -> None:
        run = folder.config
        self.folder, self.loop, self.optimiser = folder, run.loop, run.optimiser
        self.task = folder.task()
        self.device = device(run.loop.device)
        self.model = self.task.build_model(run.network).to(self.device)
        self.optimizer = build_optimizer(run.optimiser, self.model)
        self.gradient = gradient_of(run)
        self.clips = _clips(run.optimiser)
        self.stream = self.task.stream(run.loop)
        self.budget = Budget.of(run.loop, len(self.stream))
        self.eval_every = run.loop.eval_every or min(len(self.stream), _EVAL_EVERY)
        self.carry: Carry | None = None
        self.progress = Progress()
        self.generators = generator_states()  # after the last step, or the last validation
        self.report: Report | None = None
        self.saved_at, self.saved_step, self.last_loss = time.monotonic(), 0, 0.0
        self.mended: list[str] = []  # what was damaged, and what has taken its place
        self.unsaved = ""  # why the last save failed
        self._gate, self._inside = threading.Lock(), False
        self.optimizer.register_step_pre_hook(lambda *_: self._enter_gate())

    def go_on(self) -> None:
        """Take up the state that is saved; the one before it where that is damaged."""
        try:
            self._take(self.folder.state)
        except InputError as damage:
            try:
                self._take(self.folder.previous_state)
            except InputError:
                raise damage from None
            step = f"{self.progress.step:,}"
            self.mended.append(f"{self.folder.state} is damaged or missing; the run goes on from the save before it, after step {step}")
        if self.carry is not None and self.carry.kept and self.carry.made_by != self.gradient.carry_owner:
            raise InputError(
                f"the run was saved by {self.carry.made_by} and is to go on with {self.gradient!r}; expected the same, since it keeps more "
                "than the state from step to step. Give `clip_step` as before."
            )
        self._mend_best()

    def _take(self, path: Path) -> None:
        self.carry, self.progress = load_state(path, self.model, self.optimizer)
        self.saved_step, self.generators = self.progress.step, generator_states()

    def _mend_best(self) -> None:
        """Where the best weights are damaged, the latest take their place until a validation finds better ones."""
        try:
            read_tensors(self.folder.model)
        except InputError:
            self.progress.best = None
            self.save_model()
            self.mended.append(f"{self.folder.model} is damaged or missing; the latest weights take its place until the next validation")

    @property
    def finished(self) -> bool:
        """Whether the budget is spent, or nothing has become better for too long."""
        return self.budget.spent(self.progress) >= 1 or (self.loop.patience is not None and self.progress.waited >= self.loop.patience)

    def run(self, console: Console, stop: Callable[[], bool] = lambda: False) -> Ended:
        """Train until the budget is spent, or somebody asks for a stop."""
        p, stopped = self.progress, False
        if p.step and self.finished:
            put(console, f"the run has finished already, after {p.step:,} steps; a larger budget or more patience makes it go on")
        with Report(self.folder, console, step=p.step) as self.report:
            for sentence in self.mended:
                self.report.tell(sentence)
            self.model.train()
            if self.due():  # a validation that was stopped
                stopped = not self.validate(self.report, stop)
            while not (stopped or self.finished):
                self.one_step(self.report)
                due = self.due()
                stopped = (due and not self.validate(self.report, stop)) or (stop() and not self.finished)
                if due or stopped or time.monotonic() - self.saved_at >= self.loop.save_every:
                    self.save_if_possible(self.report, last=stopped or self.finished)
        if stopped:
            return Ended("interrupted", p.step, {})
        draw_curves(self.folder, self.optimiser.clip)
        scores = self.final_scores(console, stop)
        return Ended("finished" if scores is not None else "unmeasured", p.step, scores or {}, self.diverged())

    def one_step(self, report: Report) -> None:
        """A step from the stream's next window, and a row now and then. A step that is not finite leaves the state before it saved."""
        p, started = self.progress, time.monotonic()
        epoch = p.step / len(self.stream)
        rate = learning_rate(self.optimiser, step=p.step, epoch=epoch, progress=min(1.0, self.budget.spent(p))) * SLOWER**p.rollbacks
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch, before = self.stream.at(p.step).to(self.device), self.carry
        try:
            done = step(self.model, batch, self.carry, gradient=self.gradient, clips=self.clips, optimizer=self.optimizer)
            self.carry = done.carry
            p.add(done, batch.counted(), time.monotonic() - started)
            if (p.step % _ROW_EVERY == 0 or self.finished) and p.since.steps:
                row = TrainRow.of(p, p.step / len(self.stream), rate, self.gradient.logged(done.carry), self.task.unit)
                report.train(row, done=self.budget.spent(p), seconds_left=self.budget.seconds_left(p))
                self.watch_loss(report, row.loss)
            self.generators = generator_states()
        except NonFinite as first:
            self.go_on_without(first, report, time.monotonic() - started)
            return
        finally:
            self._leave_gate()
        if self.loop.watch_flow and p.step % self.loop.watch_flow == 0:
            self.watch(report, batch, before)
        if self.loop.sample_every and p.step % self.loop.sample_every == 0 and (line := self.written()) is not None:
            report.sample(p.step, line)

    def _enter_gate(self) -> None:
        """From here on the state changes; whoever saves it from aside waits until it is whole again, or has ended the process."""
        self._gate.acquire()
        self._inside = True

    def _leave_gate(self) -> None:
        if self._inside:
            self._inside = False
            self._gate.release()

    def watch(self, report: Report, batch: Batch, before: Carry | None) -> None:
        """Look at the gradient's way through the batch that was just learned from; the time counts as training's."""
        started = time.monotonic()
        with suppress(NonFinite):  # the next step, or the next save, says so
            report.flow(measure_flow(self.model, batch, before, self.progress.step))
        self.progress.seconds += time.monotonic() - started

    def written(self) -> str | None:
        """A line that the model writes, the same at the same step; the run's own chance is not touched."""
        with torch.random.fork_rng():
            return self.task.written(self.model, torch.Generator().manual_seed(self.progress.step))

    def watch_loss(self, report: Report, loss: float) -> None:
        """Say so once when the loss runs away from what it was."""
        p = self.progress
        if (away := runs_away(loss, p.recent)) and not p.diverging:
            quantile = usual(p.recent) or 0.0
            sentence = f"the loss runs away: {number(loss, 3)}, where nine in ten reports before had at most {quantile:.3f}"
            report.event("diverging", p.step, sentence, loss=loss, quantile=quantile)
        p.diverging, p.recent = away, (*p.recent, loss)[-RECENT:]

    def go_on_without(self, first: NonFinite, report: Report, seconds: float) -> None:
        """After a step that is not finite: what --on-nonfinite says, as long as there is hope.

        Raises:
            NonFinite: it says to stop, or it was done too often.
        """
        p = self.progress
        match self.loop.on_nonfinite:
            case "skip" if p.skipped_in_a_row < MOST_SKIPPED:
                with self._gate:
                    p.skip(seconds)
                    self.carry, self.generators = None, generator_states()  # the state may be what went wrong: the streams begin anew
                report.event("skipped", p.step, f"skipped: {first} was the first that is not finite", first=str(first))
            case "rollback" if p.rollbacks < MOST_ROLLBACKS:
                self.roll_back(first, report)
            case _:
                raise self.give_up(first) from None

    def roll_back(self, first: NonFinite, report: Report) -> None:
        """The state that was saved last, with half the learning rate from there on."""
        p, at, rollbacks = self.progress, self.progress.step + 1, self.progress.rollbacks + 1
        with self._gate:
            self.carry, saved = load_state(self.folder.state, self.model, self.optimizer)
            vars(p).update(vars(saved))  # in place: the loop holds it
            p.rollbacks, self.generators = rollbacks, generator_states()
        report.back_to(p.step)
        sentence = (
            f"back from step {at:,}, where {first} was the first that is not finite; on with {SLOWER**rollbacks:g} of the learning rate"
        )
        report.event("rollback", p.step, sentence, first=str(first), rate_factor=SLOWER**rollbacks)
        with self._gate:
            self._save()

    def give_up(self, first: NonFinite) -> NonFinite:
        """Save what is still good, and say what went wrong."""
        at = self.progress.step
        try:
            self._write_state()
            self.saved_step = at
        except NonFinite:
            pass  # the weights are gone too: what was saved before them stands
        return NonFinite(
            f"the loss or its gradient is not a finite number at step {at + 1}: {first} went first. The last good state, after step "
            f"{self.saved_step}, is saved in {self.folder.path}; go on from it by `resume` with a lower `lr` or `clip`, or begin "
            "anew."
        )

    def due(self) -> bool:
        """Whether a validation of the weights as they are is wanted."""
        p = self.progress
        return p.validated != p.step and (self.finished or p.step % self.eval_every == 0)

    def validate(self, report: Report, stop: Callable[[], bool]) -> bool:
        """Measure, and keep the weights if they are the best so far; False: somebody asked for a stop meanwhile."""
        p = self.progress
        if "valid" not in self.task.held_out():
            p.validated = p.step
            return True
        self.refuse_non_finite()
        try:
            score = self._measured(self.model, "valid", self.loop.eval_tokens, _unless_stopped(stop))
        except _StoppedError:
            return False
        with self._gate:
            best = p.best is None or score.loss < p.best
            p.waited = 0 if best else p.waited + 1
            if best:
                self.keep_best(score.loss, report)
            p.validated, self.last_loss, self.generators = p.step, score.loss, generator_states()
            report.valid(p.step, score, p.seconds, best=best and self.diverged() is None)
        return True

    def keep_best(self, loss: float, report: Report) -> None:
        """``model.safetensors`` and what it costs; where it cannot be written, the best that was written remains the best."""
        p = self.progress
        before = p.best, p.best_step
        p.best, p.best_step = loss, p.step
        try:
            self.save_model()
        except OSError as error:
            p.best, p.best_step = before
            report.tell(f"step {p.step:,}  cannot save the best weights ({error.strerror or error}); training goes on")

    def _measured(self, model: AbstractModel, name: str, most: int, progress: Callable[[int, int], None]) -> AbstractScore:
        return self.task.evaluate(model, name, window=self.loop.bptt, most=most, progress=progress)

    def diverged(self) -> float | None:
        """The loss of the last validation if guessing would have cost clearly less."""
        return self.last_loss if self.last_loss > _HOPELESS * self.task.guess else None

    def refuse_non_finite(self) -> None:
        """Stop, or go back, before weights that are not finite are taken for a model."""
        try:
            refuse_non_finite(self.model)
        except NonFinite as first:
            if self.report is None or self.loop.on_nonfinite != "rollback":
                raise self.give_up(first) from None
            self.go_on_without(first, self.report, 0.0)

    def save_model(self) -> None:
        """``model.safetensors``, from the weights as they are."""
        about = {"step": self.progress.step, f"valid_{self.task.unit.score}": self.progress.best}
        write_tensors(self.folder.model, dict(self.model.named_parameters()), about)

    def save(self) -> None:
        """Everything that --resume needs; until there is a validation, the latest weights are the best."""
        self.refuse_non_finite()
        with self._gate:
            self._save()

    def save_if_possible(self, report: Report, *, last: bool) -> None:
        """Save; where that fails, say so, go on, and try again later.

        Raises:
            OSError: it fails at the last chance.
        """
        try:
            self.save()
            if self.unsaved:
                report.tell(f"step {self.progress.step:,}  saved again")
            self.unsaved = ""
        except OSError as error:
            if last:
                raise
            reason, self.saved_at = str(error.strerror or error), time.monotonic()
            if reason != self.unsaved:
                report.tell(
                    f"step {self.progress.step:,}  cannot save ({reason}); training goes on, the state after step {self.saved_step:,} "
                    f"stands, and the next try is in {self.loop.save_every:g} s"
                )
            self.unsaved = reason

    def _save(self) -> None:
        if self.report is not None:
            self.report.flush()  # before the state: the next resume drops a row too many, and cannot bring back one too few
        if self.progress.best is None:
            self.save_model()
        self._write_state()
        self.saved_at, self.saved_step = time.monotonic(), self.progress.step

    def _write_state(self) -> None:
        folder = self.folder
        save_state(folder.state, self.model, self.optimizer, self.carry, self.generators, self.progress, folder.previous_state)

    def rescue(self) -> int:
        """Save the state after the last whole step, from another thread, and let no step end any more; the step that is saved.

        For whoever is about to end the process: a step may take minutes, and it changes nothing before its end.
        """
        self._gate.acquire()
        if self.saved_step != self.progress.step:
            self._save()
        return self.saved_step

    def final_scores(self, console: Console, stop: Callable[[], bool]) -> dict[str, AbstractScore] | None:
        """The best weights on what was held out; None: somebody did not want to wait for it."""
        model = self.folder.load_model(self.task, self.device)
        scores: dict[str, AbstractScore] = {}
        try:
            with bar(console) as show:
                for name in self.task.held_out():
                    progress = _unless_stopped(stop, partial(show, f"measuring {name}"))
                    scores[name] = self._measured(model, name, _AT_THE_END * self.loop.eval_tokens, progress)
        except _StoppedError:
            return None
        return scores


def _unless_stopped(stop: Callable[[], bool], show: Callable[[int, int], None] = lambda done, total: None) -> Callable[[int, int], None]:
    """Shows how far something is, and ends it if somebody asks for a stop."""

    def progress(done: int, total: int) -> None:
        show(done, total)
        if stop():
            raise _StoppedError

    return progress


class _StoppedError(Exception):
    """Somebody does not want to wait for a measurement."""


def _clips(options: OptimiserOptions) -> list[AbstractClip]:
    """By value first, then by norm."""
    by_value: list[AbstractClip] = [ClipValue(options.clip_value)] if options.clip_value else []
    return by_value + ([ClipNorm(options.clip)] if options.clip else [])
