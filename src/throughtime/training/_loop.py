"""The training loop of a language model. It can be stopped after any step, and goes on to the same bits."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, final

import torch
from rich.console import Console

from .._check import InputError, NonFinite
from ..data import Batch, Corpus, TokenStream
from ..gradients import Carry
from ..kernels import set_kernels
from ..models import LanguageModel
from ._clip import AbstractClip, ClipNorm, ClipValue
from ._evaluate import Score, evaluate
from ._files import write_tensors
from ._folder import RunFolder
from ._optimisers import build_optimizer
from ._options import LoopOptions, OptimiserOptions, device
from ._report import Report, TrainRow, bar, draw_curves
from ._schedule import learning_rate
from ._state import Progress, load_state, refuse_non_finite, save_state
from ._step import step
from ._watch import look

_ROW_EVERY = 10  # steps
_EVAL_EVERY = 2000  # steps, where an epoch is longer
_AT_THE_END = 10  # times as many symbols are measured as at a validation in between


@final
@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    why: Literal["finished", "interrupted"]
    step: int
    scores: dict[str, Score]  # the best weights on "valid" and "test", where there are such sections


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


def begin(folder: RunFolder) -> None:
    """Give a new run its first weights and state: from then on it can be gone on with.

    Raises:
        InputError: the text is too short.
        OSError: the disk is full.
    """
    _Training(folder).save()


def train(folder: RunFolder, *, console: Console, stop: Callable[[], bool] = lambda: False) -> Ended:
    """Train the folder's model on its text, from where its ``state.safetensors`` stands.

    Args:
        folder: a run folder that has begun.
        console: where progress is shown.
        stop: asked after every step, and while the final scores are measured.

    Raises:
        InputError: a state that does not belong here.
        NonFinite: the loss or gradient is no longer finite. The last good state is saved.
        OSError: the disk is full. The last state that was saved is whole.
    """
    training = _Training(folder)
    training.go_on()
    return training.run(console, stop)


class _Training:
    """What the loop holds between steps."""

    def __init__(self, folder: RunFolder) -> None:
        run = folder.config
        self.folder, self.loop, self.optimiser = folder, run.loop, run.optimiser
        if run.loop.threads is not None:
            torch.set_num_threads(run.loop.threads)
        set_kernels(run.loop.kernels)
        self.corpus = folder.corpus()
        self.device = device(run.loop.device)
        torch.manual_seed(run.loop.seed)
        self.model: LanguageModel = run.network.build(self.corpus.vocabulary.size).to(self.device)
        self.optimizer = build_optimizer(run.optimiser, self.model)
        self.gradient = run.gradient()
        self.clips = _clips(run.optimiser)
        self.stream = training_stream(self.corpus, run.loop)
        self.budget = Budget.of(run.loop, len(self.stream))
        self.eval_every = run.loop.eval_every or min(len(self.stream), _EVAL_EVERY)
        self.carry: Carry | None = None
        self.progress = Progress()
        self.saved_at, self.saved_step = time.monotonic(), 0

    def go_on(self) -> None:
        """Take up the state that is saved."""
        self.carry, self.progress = load_state(self.folder.state, self.model, self.optimizer)
        self.saved_step = self.progress.step
        if self.carry is not None and self.carry.kept and self.carry.made_by != self.gradient.carry_owner:
            raise InputError(
                f"the run was saved by {self.carry.made_by} and is to go on with {self.gradient!r}; expected the same, since it keeps more "
                "than the state from step to step. Give --clip-step as before."
            )

    def run(self, console: Console, stop: Callable[[], bool]) -> Ended:
        p = self.progress
        why: Literal["finished", "interrupted"] = "finished"
        if p.step and self.budget.spent(p) >= 1:
            console.print(
                f"the run has finished already, after {p.step:,} steps; a larger --steps, --epochs or --minutes makes it go on",
                soft_wrap=True, highlight=False,
            )  # fmt: skip
        with Report(self.folder, console, step=p.step) as report:
            self.model.train()
            while self.budget.spent(p) < 1 and why == "finished":
                self.one_step(report)
                last = self.budget.spent(p) >= 1
                due = last or p.step % self.eval_every == 0
                if due:
                    self.validate(report)
                if stop() and not last:
                    why = "interrupted"
                if due or why == "interrupted" or time.monotonic() - self.saved_at >= self.loop.save_every:
                    report.flush()  # before the state: the next resume drops a row too many, and cannot bring back one too few
                    self.save()
        draw_curves(self.folder, self.optimiser.clip)
        return Ended(why, p.step, self.final_scores(console, stop) if why == "finished" else {})

    def one_step(self, report: Report) -> None:
        """A step from the stream's next window, and a row now and then. A step that is not finite leaves the state before it saved."""
        p, started, rng = self.progress, time.monotonic(), torch.get_rng_state()
        epoch = p.step / len(self.stream)
        rate = learning_rate(self.optimiser, step=p.step, epoch=epoch, progress=min(1.0, self.budget.spent(p)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.stream[p.step % len(self.stream)].to(self.device)
        try:
            done = step(self.model, batch, self.carry, gradient=self.gradient, clips=self.clips, optimizer=self.optimizer)
        except NonFinite as first:
            raise self.give_up(first, rng) from None
        before, self.carry = self.carry, done.carry
        p.add(done, batch.counted(), time.monotonic() - started)
        if self.loop.watch_flow and p.step % self.loop.watch_flow == 0:
            self.watch(report, batch, before)
        if p.step % _ROW_EVERY == 0 or self.budget.spent(p) >= 1:
            row = TrainRow.of(p, p.step / len(self.stream), rate, self.gradient.logged(done.carry))
            report.train(row, done=self.budget.spent(p), seconds_left=self.budget.seconds_left(p))

    def watch(self, report: Report, batch: Batch, before: Carry | None) -> None:
        """Look at the gradient's way through the batch that was just learned from; the time counts as training's."""
        started = time.monotonic()
        with suppress(NonFinite):  # the next step, or the next save, says so
            report.flow(look(self.model, batch, before, self.progress.step))
        self.progress.seconds += time.monotonic() - started

    def give_up(self, first: NonFinite, rng: torch.Tensor) -> NonFinite:
        """Save what is still good, and say what went wrong."""
        at = self.progress.step
        try:
            save_state(self.folder.state, self.model, self.optimizer, self.carry, rng, self.progress)
            self.saved_step = at
        except NonFinite:
            pass  # the weights are gone too: what was saved before them stands
        return NonFinite(
            f"the loss or its gradient is not a finite number at step {at + 1}: {first} went first. The last good state, after step "
            f"{self.saved_step}, is saved in {self.folder.path}; go on from it with --resume and a lower --lr or --clip, or begin "
            "anew."
        )

    def validate(self, report: Report) -> None:
        """Measure, and keep the weights if they are the best so far."""
        section = self.corpus.sections["valid"]
        if len(section.tokens) < 2:
            return
        self.refuse_non_finite()
        score = evaluate(self.model, section, window=self.loop.bptt, most=self.loop.eval_tokens)
        best = self.progress.best is None or score.nats < self.progress.best
        if best:
            self.progress.best, self.progress.best_step = score.nats, self.progress.step
            self.save_model()
        report.valid(self.progress.step, score.as_dict(), best=best)

    def refuse_non_finite(self) -> None:
        """Stop before weights that are not finite are taken for a model."""
        try:
            refuse_non_finite(self.model)
        except NonFinite as first:
            raise self.give_up(first, torch.get_rng_state()) from None

    def save_model(self) -> None:
        """``model.safetensors``, from the weights as they are."""
        about = {"step": self.progress.step, "valid_nats": self.progress.best}
        write_tensors(self.folder.model, dict(self.model.named_parameters()), about)

    def save(self) -> None:
        """Everything that --resume needs; until there is a validation, the latest weights are the best."""
        self.refuse_non_finite()
        if self.progress.best is None:
            self.save_model()
        save_state(self.folder.state, self.model, self.optimizer, self.carry, torch.get_rng_state(), self.progress)
        self.saved_at, self.saved_step = time.monotonic(), self.progress.step

    def final_scores(self, console: Console, stop: Callable[[], bool]) -> dict[str, Score]:
        """The best weights on what was held out; whoever does not want to wait for it stops it."""
        model = self.folder.load_model(self.corpus.vocabulary, self.device)
        held_out = {name: s for name, s in self.corpus.sections.items() if name != "train" and len(s.tokens) >= 2}
        scores: dict[str, Score] = {}
        with bar(console) as show, suppress(_EnoughError):
            for name, section in held_out.items():

                def told(done: int, total: int, name: str = name) -> None:
                    show(f"measuring {name}", done, total)
                    if stop():
                        raise _EnoughError

                scores[name] = evaluate(model, section, window=self.loop.bptt, most=_AT_THE_END * self.loop.eval_tokens, progress=told)
        return scores


class _EnoughError(Exception):
    """Somebody does not want to wait for the scores."""


def training_stream(corpus: Corpus, loop: LoopOptions) -> TokenStream:
    """The training text as streams.

    Raises:
        InputError: a stream of it is shorter than one window.
    """
    tokens = corpus.sections["train"].tokens
    if (steps := (len(tokens) - 1) // loop.batch_size) < loop.bptt:
        raise InputError(
            f"the training text has {len(tokens):,} symbols, {max(0, steps):,} for each of {loop.batch_size} streams; expected at "
            f"least one window of {loop.bptt}, so {loop.batch_size * loop.bptt + 1:,}. Lower --batch-size or --bptt, or give a "
            "longer text."
        )
    return TokenStream(tokens, batch_size=loop.batch_size, window=loop.bptt)


def _clips(options: OptimiserOptions) -> list[AbstractClip]:
    """By value first, then by norm."""
    by_value: list[AbstractClip] = [ClipValue(options.clip_value)] if options.clip_value else []
    return by_value + ([ClipNorm(options.clip)] if options.clip else [])
