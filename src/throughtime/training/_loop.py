"""The training loop of a language model. It can be stopped after any step, and goes on to the same bits."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from rich.console import Console

from .._check import InputError, NonFinite
from ..data import Corpus, TokenStream
from ..gradients import Carry, TruncatedBPTT
from ..models import LanguageModel
from ._clip import AbstractClip, ClipNorm, ClipValue
from ._evaluate import Score, evaluate
from ._files import write_tensors
from ._folder import RunFolder
from ._optimisers import build_optimizer
from ._options import LoopOptions, OptimiserOptions, device
from ._report import Report, TrainRow, draw_curves
from ._schedule import learning_rate
from ._state import Progress, load_state, save_state
from ._step import Step, step

_ROW_EVERY = 10  # steps
_EVAL_EVERY = 2000  # steps, where an epoch is longer


@final
@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    why: Literal["finished", "interrupted"]
    step: int
    scores: dict[str, Score]  # the best weights on all of "valid" and "test", where there are such sections


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


def train(folder: RunFolder, *, resume: bool, console: Console, stop: Callable[[], bool] = lambda: False) -> Ended:
    """Train the folder's model on its text.

    Args:
        folder: a run folder with its tokens.
        resume: go on from its ``state.safetensors``.
        console: where progress is shown.
        stop: asked after every step.

    Raises:
        InputError: a text too short, a state that does not belong here.
        NonFinite: the loss or gradient is no longer finite. The state before that step is saved.
        OSError: the disk is full. The last state that was saved is whole.
    """
    return _Training(folder, resume, console).run(stop)


@dataclass
class _Means:
    """Of the steps since the last row."""

    loss: float = 0.0
    norm: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    steps: int = 0

    def add(self, done: Step, tokens: int, seconds: float) -> None:
        self.loss, self.norm = self.loss + done.loss, self.norm + done.norm
        self.tokens, self.seconds, self.steps = self.tokens + tokens, self.seconds + seconds, self.steps + 1

    def row(self, progress: Progress, epoch: float, rate: float) -> TrainRow:
        return TrainRow(
            step=progress.step,
            epoch=epoch,
            loss=self.loss / self.steps,
            norm=self.norm / self.steps,
            clipped=progress.clipped / progress.step,
            rate=rate,
            tokens_per_second=self.tokens / max(self.seconds, 1e-9),
            seconds=progress.seconds,
        )


class _Training:
    """What the loop holds between steps."""

    def __init__(self, folder: RunFolder, resume: bool, console: Console) -> None:
        run = folder.config
        self.folder, self.console, self.loop, self.optimiser = folder, console, run.loop, run.optimiser
        self.corpus = folder.corpus()
        self.device = device(run.loop.device)
        torch.manual_seed(run.loop.seed)
        self.model: LanguageModel = run.network.build(self.corpus.vocabulary.size).to(self.device)
        self.optimizer = build_optimizer(run.optimiser, self.model)
        self.gradient = TruncatedBPTT(run.loop.bptt, clip_adjoint=run.optimiser.clip_step or None)
        self.clips = _clips(run.optimiser)
        self.stream = training_stream(self.corpus, run.loop)
        self.budget = Budget.of(run.loop, len(self.stream))
        self.eval_every = run.loop.eval_every or min(len(self.stream), _EVAL_EVERY)
        self.carry: Carry | None = None
        self.progress = Progress()
        if resume:
            self.carry, self.progress = load_state(folder.state, self.model, self.optimizer)
        self.saved_at, self.saved_step = time.monotonic(), self.progress.step

    def run(self, stop: Callable[[], bool]) -> Ended:
        why: Literal["finished", "interrupted"] = "finished"
        with Report(self.folder, self.console, step=self.progress.step) as report:
            if self.progress.step == 0:
                self.save_model()
                self.save(report)
            self.model.train()
            means = _Means()
            while self.budget.spent(self.progress) < 1 and why == "finished":
                means = self.one_step(report, means)
                last = self.budget.spent(self.progress) >= 1
                due = last or self.progress.step % self.eval_every == 0
                if due:
                    self.validate(report)
                if stop() and not last:
                    why = "interrupted"
                if due or why == "interrupted" or time.monotonic() - self.saved_at >= self.loop.save_every:
                    self.save(report)
        draw_curves(self.folder, self.optimiser.clip)
        return Ended(why, self.progress.step, self.final_scores() if why == "finished" else {})

    def one_step(self, report: Report, means: _Means) -> _Means:
        """A step from the stream's next window, and a row now and then. A step that is not finite leaves the state before it saved."""
        p, started, rng = self.progress, time.monotonic(), torch.get_rng_state()
        rate = learning_rate(self.optimiser, step=p.step, epoch=p.step / len(self.stream), progress=min(1.0, self.budget.spent(p)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.stream[p.step % len(self.stream)].to(self.device)
        try:
            done = step(self.model, batch, self.carry, gradient=self.gradient, clips=self.clips, optimizer=self.optimizer)
        except NonFinite as first:
            raise self.give_up(first, rng) from None
        self.carry, p.step, p.clipped = done.carry, p.step + 1, p.clipped + done.clipped
        seconds = time.monotonic() - started
        p.seconds += seconds
        means.add(done, batch.counted(), seconds)
        if p.step % _ROW_EVERY and self.budget.spent(p) < 1:
            return means
        row = means.row(p, p.step / len(self.stream), rate)
        report.train(row, done=self.budget.spent(p), seconds_left=self.budget.seconds_left(p))
        return _Means()

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
            f"{self.saved_step}, is saved in {self.folder.path}; go on from it with --resume and a lower --lr or --clip."
        )

    def validate(self, report: Report) -> None:
        """Measure, and keep the weights if they are the best so far; without a validation text the latest are the best."""
        section = self.corpus.sections["valid"]
        if len(section.tokens) < 2:
            return self.save_model()
        score = evaluate(self.model, section, window=self.loop.bptt, most=self.loop.eval_tokens)
        best = self.progress.best is None or score.nats < self.progress.best
        if best:
            self.progress.best, self.progress.best_step = score.nats, self.progress.step
            self.save_model()
        report.valid(self.progress.step, score.as_dict(), best=best)
        return None

    def save_model(self) -> None:
        """``model.safetensors``, from the weights as they are."""
        about = {"step": self.progress.step, "valid_nats": self.progress.best}
        write_tensors(self.folder.model, dict(self.model.named_parameters()), about)

    def save(self, report: Report) -> None:
        """Everything that --resume needs."""
        try:
            save_state(self.folder.state, self.model, self.optimizer, self.carry, torch.get_rng_state(), self.progress)
        except NonFinite as first:
            raise self.give_up(first, torch.get_rng_state()) from None
        report.flush()
        self.saved_at, self.saved_step = time.monotonic(), self.progress.step

    def final_scores(self) -> dict[str, Score]:
        """The best weights on the whole of what was held out."""
        model = self.folder.load_model(self.corpus.vocabulary, self.device)
        held_out = {name: s for name, s in self.corpus.sections.items() if name != "train" and len(s.tokens) >= 2}
        return {name: evaluate(model, section, window=self.loop.bptt) for name, section in held_out.items()}


def training_stream(corpus: Corpus, loop: LoopOptions) -> TokenStream:
    """The training text as streams.

    Raises:
        InputError: a stream of it is shorter than one window.
    """
    tokens = corpus.sections["train"].tokens
    if (steps := (len(tokens) - 1) // loop.batch_size) < loop.bptt:
        raise InputError(
            f"the training text has {len(tokens):,} symbols, {max(0, steps):,} for each of {loop.batch_size} streams; expected at "
            f"least one window of "
            f"{loop.bptt}, so {loop.batch_size * loop.bptt + 1:,}. Lower --batch-size or --bptt, or give a longer text."
        )
    return TokenStream(tokens, batch_size=loop.batch_size, window=loop.bptt)


def _clips(options: OptimiserOptions) -> list[AbstractClip]:
    """By value first, then by norm."""
    by_value: list[AbstractClip] = [ClipValue(options.clip_value)] if options.clip_value else []
    return by_value + ([ClipNorm(options.clip)] if options.clip else [])
