"""``throughtime train text``: from files to a run folder."""

import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from .._bar import bar
from .._errors import InputError
from ..data import Corpus
from ..training import (
    Ended,
    LoopOptions,
    RunFolder,
    TextRun,
    Training,
    begin,
    check_memory,
    check_run,
    discard,
    estimate,
    number,
    resumed,
    text_source,
    training_stream,
)
from ._app import Call, say
from ._compared import duration
from ._config import as_toml, read_config
from ._flags import parse
from ._interrupt import INTERRUPTED
from ._outputs import lasting_console
from ._table import show_scores
from ._threads import idle_threads
from ._verbs import TrainText

DIVERGED = 1  # the exit status of a training that ended worse than guessing
_SLOW = 1.0  # seconds of a step that are told beforehand
_PLAIN: Any = {"soft_wrap": True, "highlight": False, "markup": False}

_MAY_CHANGE = {
    *("lr", "momentum", "weight_decay", "schedule", "warmup", "decay", "decay_after", "clip", "clip_value", "clip_step", "omega"),
    *("epochs", "steps", "minutes", "patience", "eval_every", "eval_tokens", "save_every", "sample_every", "watch_flow"),
    *("threads", "kernels", "device"),
}


def train_text(chosen: TrainText, call: Call) -> int:
    """The verb."""
    console = lasting_console()
    if chosen.resume:
        return resume(call, console)
    chosen, parent = _with_defaults(chosen, call)
    if chosen.print_config:
        print(as_toml(TextRun(chosen.text, chosen.network, chosen.optimiser, chosen.loop)))
        return 0
    with prepared(chosen, console, call, parent) as folder:
        return run(folder, console, call)


@contextmanager
def prepared(chosen: TrainText, console: Console, call: Call, parent: RunFolder | None = None) -> Iterator[RunFolder]:
    """Check every choice, read the text, and make the run folder; nothing is left behind if that fails. Locked meanwhile and inside."""
    config = TextRun(chosen.text, chosen.network, chosen.optimiser, _with_threads(chosen.loop))
    check_run(config)
    out = chosen.out or _free_name(chosen)
    RunFolder.refuse_existing(out, overwrite=chosen.overwrite)
    check_memory(config.network, 2, config.loop.batch_size, config.loop.bptt)  # refuses what does not go before the text is read
    with RunFolder.preparing(out) as aside, call.interruption.cleaned_up(lambda: discard(aside)):
        beginning = RunFolder(aside, config)
        corpus = _read(config, aside, console, parent)
        training_stream(corpus, config.loop)
        check_memory(config.network, corpus.vocabulary.size, config.loop.batch_size, config.loop.bptt)
        beginning.write_config()
        begin(beginning, None if parent is None else parent.model)
        folder = RunFolder.create(out, beginning)
    with folder.locked():
        yield folder


def _with_defaults(chosen: TrainText, call: Call) -> tuple[TrainText, RunFolder | None]:
    """What was typed over the options of --config or --from, and the run that --from names."""
    if chosen.config is not None and chosen.from_run is not None:
        raise InputError("--config and --from are given together; expected options from one place. Leave one out.")
    if chosen.config is not None:
        return _typed_over(read_config(chosen.config), call), None
    if chosen.from_run is None:
        return chosen, None
    parent = RunFolder.open(chosen.from_run)
    again = _typed_over(parent.config, call)
    for name, old, new in (
        *((f.name, getattr(parent.config.network, f.name), getattr(again.network, f.name)) for f in fields(again.network)),
        ("level", parent.config.text.level, again.text.level),
    ):
        if old != new and name not in ("dropout", "init", "forget_bias", "chrono"):
            raise InputError(
                f"--{name} is {new} but the weights that --from names have {old}; expected the same network and symbols. Leave it out."
            )
    return again, parent


def _typed_over(run: TextRun, call: Call) -> TrainText:
    typed = parse(TrainText, call.words, call.prog, "", TrainText(run.text, run.network, run.optimiser, run.loop))
    return replace(typed, loop=_one_budget(run.loop, typed.loop))


def resume(call: Call, console: Console) -> int:
    """Go on with the run in --out."""
    folder, chosen = _stored(call)
    with folder.locked():
        stored = folder.config
        config = _merged(stored, TextRun(chosen.text, chosen.network, chosen.optimiser, chosen.loop))
        check_run(config)
        return run(RunFolder(folder.path, config), console, call, changed=config != stored)


def run(folder: RunFolder, console: Console, call: Call, *, changed: bool = False) -> int:
    """Train to the end or to the first Ctrl-C, and say what came of it."""
    with resumed(folder) as training:
        if changed and not training.finished:
            folder.write_config()
        if not training.finished and training.loop.gradient is not None:
            _tell_slow_steps(training, console)
        with call.interruption.polite(lambda: _interrupted(folder, training.rescue())) as stop:
            ended = training.run(console, stop)
    if ended.why == "finished":
        return _conclude(folder, ended, console)
    call.interruption.claim()
    console.print(_interrupted(folder, ended.step) if ended.why == "interrupted" else _unmeasured(folder), **_PLAIN)
    return INTERRUPTED


def _tell_slow_steps(training: Training, console: Console) -> None:
    """What a step will take, if that is long enough to wonder."""
    found = estimate(training.model, training.stream[0].to(training.device), training.gradient)
    if found.seconds >= _SLOW:
        console.print(f"a step with --gradient {training.loop.gradient} takes about {duration(found.seconds)}", **_PLAIN)


def _interrupted(folder: RunFolder, step: int) -> str:
    return (
        f"\ninterrupted after step {step:,}; the whole state is saved in {folder.path}. Go on with:\n"
        f"  throughtime train text --out {shlex.quote(str(folder.path))} --resume"
    )


def _unmeasured(folder: RunFolder) -> str:
    return (
        f"\ninterrupted while the final scores were measured; the run has finished, and is whole in {folder.path}. Measure it with:\n"
        f"  throughtime evaluate {shlex.quote(str(folder.path))}"
    )


def _stored(call: Call) -> tuple[RunFolder, TrainText]:
    """The folder named by --out, and its options with what was given anew."""
    out = parse(TrainText, call.words, call.prog, "").out
    if out is None:
        raise InputError("--resume is given without --out; expected the run folder to go on with. Name it: --out RUN --resume")
    folder = RunFolder.open(out)
    stored = folder.config
    default = TrainText(stored.text, stored.network, stored.optimiser, stored.loop, out, resume=True)
    chosen = parse(TrainText, call.words, call.prog, "", default)
    if chosen.overwrite:
        raise InputError("--resume and --overwrite are given together; expected one of them. Leave one out.")
    return folder, chosen


def _merged(stored: TextRun, given: TextRun) -> TextRun:
    """The stored configuration with the given one's changes, refusing those that would make it another run."""
    for section in fields(TextRun):
        old, new = getattr(stored, section.name), getattr(given, section.name)
        for option in fields(old):
            if getattr(old, option.name) != getattr(new, option.name) and option.name not in _MAY_CHANGE:
                name = "FILE" if option.name == "files" else f"--{option.name.replace('_', '-')}"
                raise InputError(
                    f"{name} is {_shown(getattr(new, option.name))} but the run was begun with {_shown(getattr(old, option.name))}; "
                    f"expected the same to go on. "
                    "Leave it out, or begin another run."
                )
    return replace(given, loop=_one_budget(stored.loop, given.loop))


def _one_budget(old: LoopOptions, new: LoopOptions) -> LoopOptions:
    """A budget given anew takes the place of the one that was there."""
    changed = [name for name in ("epochs", "steps", "minutes") if getattr(old, name) != getattr(new, name)]
    return replace(new, **{n: None for n in ("epochs", "steps", "minutes") if n not in changed}) if changed else new


def _shown(value: Any) -> str:
    """As it is typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _free_name(chosen: TrainText) -> Path:
    stem = chosen.text.files[0].stem.strip("-.") or "text"
    name = f"{stem}-{chosen.network.cell.replace(':', '-')}{chosen.network.hidden}"
    number = 1
    while (path := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return path


def _read(config: TextRun, folder: Path, console: Console, parent: RunFolder | None) -> Corpus:
    text, vocabulary = config.text, None if parent is None else parent.vocabulary()
    with bar(console) as show:
        corpus = Corpus.build(
            text_source(text),
            folder,
            level=text.level,
            vocabulary_size=text.vocab_size,
            min_count=text.min_count,
            vocabulary=vocabulary,
            progress=show,
        )
    sizes = "  ".join(f"{name} {len(s.tokens):,}" for name, s in corpus.sections.items() if len(s.tokens))
    console.print(f"{corpus.vocabulary.size:,} symbols at level {text.level}; {sizes}", highlight=False)
    return corpus


def _with_threads(loop: LoopOptions) -> LoopOptions:
    """How many threads is settled when a run begins, since the last bits depend on it."""
    return loop if loop.threads is not None else replace(loop, threads=idle_threads())


def _conclude(folder: RunFolder, ended: Ended, console: Console) -> int:
    """The scores, and what to do next; the exit code."""
    if ended.scores:
        show_scores(console, ended.scores)
    console.print(f"run folder: {folder.path}", **_PLAIN)
    if ended.diverged is None:
        console.print(f"sample it with: throughtime sample {shlex.quote(str(folder.path))}", **_PLAIN)
        return 0
    guessing = math.log(folder.vocabulary().size)
    say(
        f"the training diverged: the last validation costs {number(ended.diverged, 3)} nats a symbol, and guessing {guessing:.3f}; "
        "expected less than guessing. Lower --lr, or --clip."
    )
    return DIVERGED
