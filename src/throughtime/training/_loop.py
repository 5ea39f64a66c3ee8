"""The training loop of every task. It can be stopped after any step, and goes on to the same bits."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, final

import torch
from rich.console import Console

from .._bar import bar
from .._check import NonFinite
from .._console import put
from ..data import Batch
from ..gradients import Carry
from ..kernels import get_kernels, set_kernels
from ..models import AbstractModel
from ._budget import Budget
from ._build import device, gradient_of
from ._clip import AbstractClip, ClipNorm, ClipValue
from ._faults import SLOWER, Faults
from ._files import load_parameters, read_tensors
from ._folder import RunFolder
from ._generators import generator_states, set_generator_states
from ._optimisers import build_optimizer
from ._ranks import ALONE, Ranks
from ._report import AbstractReport, Report, Silence, TrainRow, draw_curves
from ._schedule import learning_rate
from ._score import AbstractScore
from ._standing import Standing
from ._state import Progress
from ._step import step
from ._watch import measure_flow
from .options import AnyRun, LoopOptions, OptimiserOptions, SaveEvery

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


def check_ranks(run: AnyRun, ranks: Ranks) -> None:
    """Refuse what processes cannot share.

    Raises:
        InputError: streams that cannot be dealt evenly, a gradient method that needs all of them, one GPU for all.
    """
    if ranks.size == 1:
        return
    run.check()
    ranks.each(run.loop.batch_size)
    ranks.method(gradient_of(run))
    ranks.device(device(run.loop.device))


@contextmanager
def resumed(folder: RunFolder, ranks: Ranks = ALONE) -> "Iterator[Training]":
    """A run where its saved state stands, ready to ``run``; the process's settings are the run's meanwhile.

    Args:
        folder: a run folder that has begun.
        ranks: the processes that share the training. Each of them calls this, and the first writes.
    """
    with _settings(folder.config.loop):
        training = ranks.all_or_none(lambda: _taken_up(folder, ranks))
        ranks.all_or_none(training.standing.agree)
        yield training


def _taken_up(folder: RunFolder, ranks: Ranks) -> "Training":
    training = Training(folder, ranks)
    training.go_on()
    return training


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
    """What the loop holds between steps."""

    def __init__(self, folder: RunFolder, ranks: Ranks = ALONE) -> None:
        run = folder.config
        self.folder, self.loop, self.optimiser, self.ranks = folder, run.loop, run.optimiser, ranks
        self.task = folder.task()
        self.device = ranks.device(device(run.loop.device))
        self.model = self.task.build_model(run.network).to(self.device)
        self.optimizer = build_optimizer(run.optimiser, self.model)
        self.gradient = ranks.method(gradient_of(run))
        self.clips = _clips(run.optimiser)
        self.stream = ranks.stream(self.task.stream(run.loop), run.loop.batch_size)
        self.budget = Budget.of(run.loop, len(self.stream))
        self.save_every = SaveEvery.of(run.loop.save_every)
        self.eval_every = run.loop.eval_every or min(len(self.stream), _EVAL_EVERY)
        self.standing = Standing(folder, self.model, self.optimizer, gradient_of(run), ranks)
        self.faults = Faults(self.standing, run.loop)
        self.last_loss = 0.0
        self._mended: list[str] = []  # what was damaged, and what has taken its place

    @property
    def progress(self) -> Progress:
        """Where training stands."""
        return self.standing.progress

    @property
    def finished(self) -> bool:
        """Whether the budget is spent, or nothing has become better for too long."""
        return self.budget.spent(self.progress) >= 1 or (self.loop.patience is not None and self.progress.waited >= self.loop.patience)

    def save(self) -> None:
        """Everything that --resume needs."""
        self.faults.refuse_weights(None)
        self.standing.save()

    def rescue(self) -> int:
        """From another thread: save the state after the last whole step, and let no step end any more; the step that is saved."""
        return self.standing.rescue()

    def go_on(self) -> None:
        """Take up the state that is saved."""
        self._mended = self.standing.take_up()

    def run(self, console: Console, stop: Callable[[], bool] = lambda: False) -> Ended:
        """Train until the budget is spent, or somebody asks for a stop."""
        p, stopped = self.progress, False
        if p.step and self.finished:
            put(console, f"the run has finished already, after {p.step:,} steps; a larger budget or more patience makes it go on")
        asked, late = self.ranks.ask(stop, self.is_late)
        with Report(self.folder, console, step=p.step) if self.ranks.first else Silence() as report:
            self.standing.report = report
            for sentence in self._mended:
                report.tell(sentence)
            self.model.train()
            if self.due():  # a validation that was stopped
                stopped = not self.validate(report, stop)
            while not (stopped or self.finished):
                self.one_step(report)
                if self.budget.seconds is not None:
                    p.seconds = self.ranks.share(p.seconds)
                due = self.due()
                stopped = (due and not self.validate(report, stop)) or (asked() and not self.finished)
                if due or stopped or late() or self.save_every.after(p.step):
                    self.faults.save(report, last=stopped or self.finished)
        return Ended("interrupted", p.step, {}) if stopped else self.conclude(console, stop)

    def is_late(self) -> bool:
        """Whether the state should have been saved by now; each rank has a clock of its own."""
        return self.save_every.is_late(time.monotonic() - self.standing.saved_at)

    def conclude(self, console: Console, stop: Callable[[], bool]) -> Ended:
        """The picture and the final scores, which the first process makes while the others wait."""
        scores = None
        if self.ranks.first:
            draw_curves(self.folder, self.optimiser.clip)
            scores = self.final_scores(console, stop)
        measured = self.ranks.share(scores is not None)
        return Ended("finished" if measured else "unmeasured", self.progress.step, scores or {}, self.diverged())

    def one_step(self, report: AbstractReport) -> None:
        """A step from the stream's next window, and a row now and then. A step that is not finite leaves the state before it saved."""
        p, started = self.progress, time.monotonic()
        rate = self.set_rate()
        batch, before = self.stream.at(p.step).to(self.device), self.standing.carry
        try:
            with self.standing.step():
                done = step(self.model, batch, before, gradient=self.gradient, clips=self.clips, optimizer=self.optimizer, ranks=self.ranks)
                self.standing.carry = done.carry
                p.add(done, self.ranks.counted(batch), time.monotonic() - started)
                if (p.step % _ROW_EVERY == 0 or self.finished) and p.since.steps:
                    self.tell(report, rate, self.gradient.logged(done.carry))
                self.standing.generators = generator_states()
        except NonFinite as first:
            self.faults.go_on_without(first, report, time.monotonic() - started)
            return
        if self.ranks.first:
            self.look(report, batch, before)

    def look(self, report: AbstractReport, batch: Batch, before: Carry | None) -> None:
        """What is shown of the model now and then."""
        p = self.progress
        if self.loop.watch_flow and p.step % self.loop.watch_flow == 0:
            self.watch(report, batch, before)
        if self.loop.sample_every and p.step % self.loop.sample_every == 0 and (line := self.written()) is not None:
            report.sample(p.step, line)

    def set_rate(self) -> float:
        """Give the optimiser the learning rate of the next step."""
        p = self.progress
        epoch, spent = p.step / len(self.stream), min(1.0, self.budget.spent(p))
        rate = learning_rate(self.optimiser, step=p.step, epoch=epoch, progress=spent) * SLOWER**p.rollbacks
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def tell(self, report: AbstractReport, rate: float, method: Mapping[str, float]) -> None:
        """A row of what has gathered since the last."""
        p = self.progress
        row = TrainRow.of(p, p.step / len(self.stream), rate, method, self.task.unit)
        report.train(row, done=self.budget.spent(p), seconds_left=self.budget.seconds_left(p))
        self.faults.watch_loss(report, row.loss)

    def watch(self, report: AbstractReport, batch: Batch, before: Carry | None) -> None:
        """Look at the gradient's way through the batch that was just learned from; the time counts as training's."""
        started = time.monotonic()
        with suppress(NonFinite):  # the next step, or the next save, says so
            report.flow(measure_flow(self.model, batch, before, self.progress.step))
        self.progress.seconds += time.monotonic() - started

    def written(self) -> str | None:
        """A line that the model writes, the same at the same step; the run's own chance is not touched."""
        with torch.random.fork_rng():
            return self.task.written(self.model, torch.Generator().manual_seed(self.progress.step))

    def due(self) -> bool:
        """Whether a validation of the weights as they are is wanted."""
        p = self.progress
        return p.validated != p.step and (self.finished or p.step % self.eval_every == 0)

    def validate(self, report: AbstractReport, stop: Callable[[], bool]) -> bool:
        """Measure, and keep the weights if they are the best so far; False: somebody asked for a stop meanwhile."""
        p = self.progress
        if "valid" not in self.task.held_out():
            p.validated = p.step
            return True
        self.faults.refuse_weights(report)
        score = self._validation(stop) if self.ranks.first else None
        loss = self.ranks.share(None if score is None else score.loss)
        if loss is None:
            return False
        with self.standing.changing:
            best = p.best is None or loss < p.best
            p.waited = 0 if best else p.waited + 1
            if best:
                self.standing.keep_best(loss, report)
            p.validated, self.last_loss, self.standing.generators = p.step, loss, generator_states()
            if score is not None:
                report.valid(p.step, score, p.seconds, best=p.best_step == p.step and self.diverged() is None)
        return True

    def _validation(self, stop: Callable[[], bool]) -> AbstractScore | None:
        """None: somebody asked for a stop meanwhile."""
        try:
            return self._measured(self.model, "valid", self.loop.eval_tokens, _unless_stopped(stop))
        except _StoppedError:
            return None

    def diverged(self) -> float | None:
        """The loss of the last validation if guessing would have cost clearly less."""
        return self.last_loss if self.last_loss > _HOPELESS * self.task.guess else None

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

    def _measured(self, model: AbstractModel, name: str, most: int, progress: Callable[[int, int], None]) -> AbstractScore:
        return self.task.evaluate(model, name, window=self.loop.bptt, most=most, progress=progress)


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
