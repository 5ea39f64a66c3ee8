"""``throughtime train``: from data to a run folder, for every task."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from .._bar import bar
from .._console import PLAIN, put
from .._errors import InputError
from .._processes import job, local_ranks, may_restart
from ..training import (
    ALONE,
    TASKS,
    AbstractTask,
    AnyRun,
    Ended,
    LoopOptions,
    LostRankError,
    Ranks,
    RunFolder,
    Training,
    begin,
    check_ranks,
    check_run,
    discard,
    estimate,
    lower,
    number,
    planned,
    resumed,
    seed_runs,
    together,
)
from ._app import Call, ran_out_of_memory, say
from ._compared import duration
from ._config import as_toml, read_config
from ._flag_names import as_in_file
from ._flags import parse
from ._interrupt import INTERRUPTED
from ._outputs import lasting_console
from ._table import show_scores
from ._threads import idle_threads
from ._verbs import FolderOptions, Train

DIVERGED = 1  # the exit status of a training that ended worse than guessing
LOST = 1  # that of a process whose fellows have ended; torchrun starts all of them again, if it may
_SLOW = 1.0  # seconds of a step that are told beforehand

_MAY_CHANGE = {
    *("lr", "momentum", "weight_decay", "schedule", "warmup", "decay", "decay_after", "clip", "clip_value", "clip_step", "omega"),
    *("epochs", "steps", "minutes", "patience", "eval_every", "eval_tokens", "save_every", "sample_every", "watch_flow", "on_nonfinite"),
    *("threads", "kernels", "device"),
}


def train(chosen: Train, call: Call) -> int:
    """The verb, in this process and those that were started with it."""
    try:
        with together() as ranks:
            return _train(chosen, call, ranks)
    except LostRankError as error:
        say(str(error))
        return LOST


def _train(chosen: Train, call: Call, ranks: Ranks) -> int:
    console = lasting_console(quiet=not ranks.first)
    if ranks.share(chosen.folder.resume or RunFolder.is_of_job(chosen.folder.out, job())):
        return resume(type(chosen), call, console, ranks)
    chosen, parent = with_defaults(chosen, call)
    if chosen.folder.print_config:
        if ranks.first:
            print(as_toml(chosen.run()))
        return 0
    if chosen.folder.config is not None:
        check_file(chosen, chosen.folder.config)
    if may_restart() and chosen.folder.out is None:
        raise InputError("--max-restarts is given to torchrun, and no --out; expected a name to find the run by. Give it: --out RUN")
    check_ranks(chosen.run(), ranks)
    if not ranks.first:
        return run(_of_first(ranks), console, call, ranks)
    with prepared(chosen, console, call, parent) as folder:
        return run(_of_first(ranks, folder), console, call, ranks)


def _of_first(ranks: Ranks, folder: RunFolder | None = None) -> RunFolder:
    """The folder that the first process has made, seen from each of them."""
    path = ranks.share(None if folder is None else str(folder.path.resolve()))
    return ranks.all_or_none(lambda: RunFolder.open(Path(path)) if folder is None else folder)


@contextmanager
def prepared(chosen: Train, console: Console, call: Call, parent: RunFolder | None = None) -> Iterator[RunFolder]:
    """Check every choice, read the data, and make the run folder; nothing is left behind if that fails. Locked meanwhile and inside."""
    config = replace(cast(Any, chosen), loop=with_threads(chosen.loop)).run()
    check_run(config)
    out = chosen.folder.out or free_name(config)
    RunFolder.refuse_existing(out, overwrite=chosen.folder.overwrite)
    with (
        call.interruption.answering(lambda: "interrupted before the run had begun; nothing of it is left"),
        RunFolder.preparing(out) as aside,
        call.interruption.cleaned_up(lambda: discard(aside)),
    ):
        beginning = RunFolder(aside, config)
        read(config, aside, console, parent)
        beginning.write_config()
        beginning.write_job(job())
        begin(beginning, None if parent is None else parent.model)
        folder = RunFolder.create(out, beginning)
    with folder.locked():
        yield folder


def with_defaults(chosen: Train, call: Call) -> tuple[Train, RunFolder | None]:
    """What was typed over the options of --config or --from, and the run that --from names."""
    config, from_run = chosen.folder.config, chosen.folder.from_run
    if config is not None and from_run is not None:
        raise InputError("--config and --from are given together; expected options from one place. Leave one out.")
    if config is not None:
        return _typed_over(type(chosen), read_config(config, chosen.kind), call), None
    if from_run is None:
        return chosen, None
    parent = _of_kind(type(chosen), RunFolder.open(from_run))
    again = _typed_over(type(chosen), parent.config, call)
    _refuse_another_network(parent.config, again.run())
    return again, parent


def check_file(chosen: Train, file: Path) -> None:
    """Refuse what means nothing, in the file's names where the file says it."""
    try:
        check_run(chosen.run())
    except InputError as error:
        usual, written, typed = (_options(run) for run in (type(chosen)().run(), read_config(file, chosen.kind), chosen.run()))
        of_file = {name: value for name, value in written.items() if value != usual[name] and value == typed[name]}
        raise InputError(as_in_file(str(error), of_file, file)) from None


def _options(run: AnyRun) -> dict[str, Any]:
    """By name, without their groups."""
    return {name: value for group in fields(cast(Any, run)) for name, value in vars(getattr(run, group.name)).items()}


def _refuse_another_network(old: AnyRun, new: AnyRun) -> None:
    """The parent's weights fit one network and one form of the data."""
    network = {f.name for f in fields(new.network)} - {"dropout", "input_dropout", "init", "forget_bias", "chrono"}
    for one, other, names in ((old.network, new.network, network), (old.source, new.source, new.source.shapes)):
        for name in sorted(names):
            if getattr(one, name) != getattr(other, name):
                raise InputError(
                    f"--{name.replace('_', '-')} is {_shown(getattr(other, name))} but the weights that --from names have "
                    f"{_shown(getattr(one, name))}; expected the same network and {new.source.form}. Leave it out."
                )


def _of_kind(verb: type[Train], folder: RunFolder) -> RunFolder:
    """Refuse a run of another task."""
    if (found := folder.config.task) != verb.kind.task:
        raise InputError(
            f"{folder.path} is a run of throughtime train {found}; expected one of throughtime train {verb.kind.task}. "
            f"Name another run, or type: throughtime train {found}"
        )
    return folder


def _typed_over(verb: type[Train], run: AnyRun, call: Call) -> Train:
    typed = parse(verb, call.words, call.prog, "", verb.of(run, FolderOptions()))
    return replace(cast(Any, typed), loop=_one_budget(run.loop, typed.loop))


def resume(verb: type[Train], call: Call, console: Console, ranks: Ranks = ALONE) -> int:
    """Go on with the run in --out."""
    out = parse(verb, call.words, call.prog, "").folder.out
    if out is None:
        raise InputError("--resume is given without --out; expected the run folder to go on with. Name it: --out RUN --resume")
    stored, folder = taken_up(verb, call, out)
    check_ranks(folder.config, ranks)
    with folder.locked() if ranks.first else nullcontext():
        return run(folder, console, call, ranks, changed=folder.config != stored)


def taken_up(verb: type[Train], call: Call, path: Path) -> tuple[AnyRun, RunFolder]:
    """The options of a run as it was saved, and the run with what was given anew."""
    folder = _of_kind(verb, RunFolder.open(path))
    chosen = parse(verb, call.words, call.prog, "", verb.of(folder.config, FolderOptions(path, resume=True)))
    if len(chosen.folder.seed) > 1:
        chosen = replace(cast(Any, chosen), folder=replace(chosen.folder, seed=()))  # each of the runs has one of them
    config = _merged(folder.config, chosen.run())
    check_run(config)
    return folder.config, RunFolder(folder.path, config)


def run(folder: RunFolder, console: Console, call: Call, ranks: Ranks = ALONE, *, changed: bool = False) -> int:
    """Train to the end or to the first Ctrl-C, and say what came of it."""
    ended = trained(folder, console, call, ranks, changed=changed)
    return INTERRUPTED if ended is None else _conclude(folder, ended, console)


def trained(folder: RunFolder, console: Console, call: Call, ranks: Ranks = ALONE, *, changed: bool = False) -> Ended | None:
    """How a training ended; None: somebody has interrupted it, and was told how to go on."""
    with call.interruption.answering(lambda: _as_it_was(folder)), resumed(folder, ranks) as training:
        if changed and not training.finished and ranks.first:
            folder.write_config()
        if not training.finished and training.loop.gradient is not None and ranks.first:
            _tell_slow_steps(training, console)
        if training.progress.step and not training.finished:
            put(console, f"going on after step {training.progress.step:,}")
        with _asked_to_stop(call, folder, training) as stop, _telling_the_plan(training):
            ended = training.run(console, stop)
    if ended.why == "finished":
        return ended
    call.interruption.claim()
    console.print(_interrupted(folder, ended.step) if ended.why == "interrupted" else _unmeasured(folder), **PLAIN)
    return None


@contextmanager
def _telling_the_plan(training: Training) -> Iterator[None]:
    """Where memory runs out, what was to be in it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        needed, what = planned(training.model, training.loop)
        raise InputError(
            f"the memory is full; {what} takes about {needed / 2**30:,.2f} GiB by plan, beside the data. {lower(training.loop)}"
        ) from None


def _asked_to_stop(call: Call, folder: RunFolder, training: Training) -> AbstractContextManager[Callable[[], bool]]:
    """One process saves the state before a step that does not end; several end it together."""
    if training.ranks.size > 1:
        return call.interruption.patient()
    return call.interruption.polite(lambda: _interrupted(folder, training.rescue()))


def _tell_slow_steps(training: Training, console: Console) -> None:
    """What a step will take, if that is long enough to wonder."""
    found = estimate(training.model, training.stream[0].to(training.device), training.gradient)
    if found.seconds >= _SLOW:
        put(console, f"a step with --gradient {training.loop.gradient} takes about {duration(found.seconds)}")


def _as_it_was(folder: RunFolder) -> str:
    return f"interrupted; the run in {folder.path} is whole, as it was saved. Go on with:\n  {_resume(folder)}"


def _is_of_seeds(folder: RunFolder) -> bool:
    """Whether the run is one of several that a command makes."""
    return folder.path in seed_runs(folder.path.parent)


def _resume(folder: RunFolder) -> str:
    out = folder.path.parent if _is_of_seeds(folder) else folder.path
    return f"throughtime train {folder.config.task} --out {shlex.quote(str(out))} --resume"


def _interrupted(folder: RunFolder, step: int) -> str:
    return f"\ninterrupted after step {step:,}; the whole state is saved in {folder.path}. Go on with:\n  {_resume(folder)}"


def _unmeasured(folder: RunFolder) -> str:
    what = f"\ninterrupted while the final scores were measured; the run has finished, and is whole in {folder.path}."
    if _is_of_seeds(folder):  # others may not have begun
        return f"{what} Go on with:\n  {_resume(folder)}"
    return f"{what} Measure it with:\n  throughtime evaluate {shlex.quote(str(folder.path))}"


def _merged(stored: AnyRun, given: AnyRun) -> AnyRun:
    """The stored configuration with the given one's changes, refusing those that would make it another run."""
    pairs = [(getattr(stored, section.name), getattr(given, section.name)) for section in fields(cast(Any, stored))]
    names = [(option.name, old, new) for old, new in pairs for option in fields(old)]
    refused = [
        f"{_flag(name)} is {_shown(getattr(new, name))} but the run was begun with {_shown(getattr(old, name))}"
        for name, old, new in names
        if getattr(old, name) != getattr(new, name) and name not in _MAY_CHANGE
    ]
    if refused:
        others = ", ".join(_flag(name) for name, _, _ in names if name in _MAY_CHANGE)
        raise InputError(
            f"{', '.join(refused)}; expected the same to go on. Leave {'it' if len(refused) == 1 else 'them'} out, or begin another run. "
            f"These may be others: {others}."
        )
    return replace(cast(Any, given), loop=_one_budget(stored.loop, given.loop))


def _flag(name: str) -> str:
    return "FILE" if name == "files" else f"--{name.replace('_', '-')}"


def _one_budget(old: LoopOptions, new: LoopOptions) -> LoopOptions:
    """A budget given anew takes the place of the one that was there."""
    changed = [name for name in ("epochs", "steps", "minutes") if getattr(old, name) != getattr(new, name)]
    return replace(new, **{n: None for n in ("epochs", "steps", "minutes") if n not in changed}) if changed else new


def _shown(value: Any) -> str:
    """As it is typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def free_name(run: AnyRun) -> Path:
    stem = run.source.files[0].stem.strip("-.") or run.task
    name = f"{stem}-{run.network.cell.replace(':', '-')}{run.network.hidden}"
    number = 1
    while (path := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return path


def read(config: AnyRun, folder: Path, console: Console, parent: RunFolder | None) -> None:
    """The data into the run folder, and a line about it."""
    before: AbstractTask | None = None if parent is None else parent.task()
    put(console, f"reading {', '.join(map(str, config.source.files))}")  # a pipe may keep us waiting
    with bar(console) as show:
        task = TASKS[config.task][1].prepare(folder, config, parent=before, told=show)
    put(console, task.about())


def with_threads(loop: LoopOptions) -> LoopOptions:
    """How many threads is settled when a run begins, since the last bits depend on it."""
    return loop if loop.threads is not None else replace(loop, threads=max(1, idle_threads() // local_ranks()))


def _conclude(folder: RunFolder, ended: Ended, console: Console) -> int:
    """The scores, and what to do next; the exit code."""
    if ended.scores:
        show_scores(console, ended.scores)
    console.print(f"run folder: {folder.path}", **PLAIN)
    task = folder.task()
    if ended.diverged is None:
        console.print(f"{task.sampled} {shlex.quote(str(folder.path))}", **PLAIN)
        return 0
    say(diverged(folder, ended.diverged))
    return DIVERGED


def diverged(folder: RunFolder, loss: float) -> str:
    """What to say of a training that ended worse than guessing."""
    task = folder.task()
    return (
        f"the training diverged: the last validation costs {number(loss, 3)} {task.unit.cost}, and guessing {task.guess:.3f}; "
        "expected less than guessing. Lower --lr, or --clip."
    )
