"""``throughtime train`` with several seeds: a run for each, one after the other, and the mean and spread of their scores.

The runs are folders seed-1, seed-2, ... of --out. All of them are whole before the first one trains, so that --resume knows what is left.
"""

import json
import math
import os
import shlex
import shutil
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from .._console import PLAIN, put
from .._errors import InputError, NonFinite
from .._processes import ranks
from ..training import AbstractScore, AnyRun, RunFolder, begin, check_run, discard, seed_runs, write_bytes
from . import _train
from ._app import Call, say
from ._flag_names import in_flags
from ._flags import flag_names
from ._interrupt import INTERRUPTED
from ._outputs import lasting_console
from ._table import show_table
from ._verbs import Train

Scores = Mapping[str, AbstractScore]  # by the part of the data
_FAILED = 2  # the exit status of a command one of whose runs has stopped


def train(chosen: Train, call: Call) -> int:
    """The verb: one run, or one for each seed."""
    _tell_bare_seconds(chosen.loop.save_every)
    out = chosen.folder.out
    if chosen.folder.resume and chosen.folder.overwrite:
        raise InputError("--resume and --overwrite are given together; expected one of them. Leave one out.")
    if ranks() > 1 and (len(chosen.folder.seed) > 1 or (chosen.folder.resume and out is not None and seed_runs(out))):
        raise InputError(f"several seeds are given to {ranks()} processes; expected one, whose run they share. Give them to one process.")
    if chosen.folder.resume and out is not None and seed_runs(out):
        return _resume(chosen, call, out)
    if len(chosen.folder.seed) < 2:
        return _train.train(chosen, call)
    if chosen.folder.resume or chosen.folder.print_config:
        flag = "--resume" if chosen.folder.resume else "--print-config"
        raise InputError(f"several seeds are given with {flag}; expected one, since that is about one run. Give one --seed, or none.")
    console = lasting_console()
    chosen, parent = _train.with_defaults(chosen, call)
    if chosen.folder.config is not None:
        _train.check_file(chosen, chosen.folder.config)
    out, folders = _prepared(chosen, console, call, parent)
    return _run_all(out, [(folder, False) for folder in folders], console, call, chosen)


def _tell_bare_seconds(save_every: str | float) -> None:
    """A number without a unit is deprecated."""
    if isinstance(save_every, float) and 0 <= save_every < math.inf:
        say(f"--save-every {save_every:g} is read as seconds, as it always was; with a unit it is clear: {save_every:g}s, or 500steps.")


def _prepared(chosen: Train, console: Console, call: Call, parent: RunFolder | None) -> tuple[Path, list[RunFolder]]:
    """Every run, with its first weights; the data is read once. Nothing is left behind if that fails."""
    seeds = sorted(chosen.folder.seed)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seed is {','.join(map(str, seeds))}; expected each seed once. Leave one out.")
    run = replace(cast(Any, chosen), loop=_train.with_threads(chosen.loop)).run()
    configs = [replace(run, loop=replace(run.loop, seed=seed)) for seed in seeds]
    for config in configs:
        check_run(config)
    out = chosen.folder.out or _train.free_name(run)
    RunFolder.refuse_existing(out, overwrite=chosen.folder.overwrite)
    with ExitStack() as stack:
        stack.enter_context(call.interruption.answering(lambda: "interrupted before the runs had begun; nothing of them is left"))
        for before in seed_runs(out):
            stack.enter_context(RunFolder.open(before).locked())
        aside = stack.enter_context(RunFolder.preparing(out))
        stack.enter_context(call.interruption.cleaned_up(lambda: discard(aside)))
        _fill(aside, configs, console, parent)
        RunFolder.create(out, RunFolder(aside, run))
    return out, [RunFolder(_place(out, config), config) for config in configs]


def _place(out: Path, config: AnyRun) -> Path:
    return out / f"seed-{config.loop.seed}"


def _fill(aside: Path, configs: Sequence[AnyRun], console: Console, parent: RunFolder | None) -> None:
    """The data into the first run's folder, from there into the others, and all that a run needs to go on."""
    first = _place(aside, configs[0])
    first.mkdir()
    _train.read(configs[0], first, console, parent)
    for config in configs[1:]:
        shutil.copytree(first, _place(aside, config), copy_function=_link)
    for config in configs:
        folder = RunFolder(_place(aside, config), config)
        folder.write_config()
        begin(folder, None if parent is None else parent.model)


def _link(source: str, target: str) -> None:
    """The same file twice, where the system can: what ``prepare`` has written is not written again."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _resume(chosen: Train, call: Call, out: Path) -> int:
    """Go on with every run of --out."""
    found = [int(path.name.removeprefix("seed-")) for path in seed_runs(out)]
    if chosen.folder.seed and sorted(chosen.folder.seed) != found:
        given, there = (",".join(map(str, seeds)) for seeds in (chosen.folder.seed, found))
        raise InputError(
            f"--seed is {given} and {out} has runs of {there}; expected the same to go on. Leave it out, or begin anew in another folder."
        )
    runs = [_train.taken_up(type(chosen), call, path) for path in seed_runs(out)]
    return _run_all(out, [(folder, folder.config != stored) for stored, folder in runs], lasting_console(), call, chosen)


def _run_all(out: Path, runs: Sequence[tuple[RunFolder, bool]], console: Console, call: Call, chosen: Train) -> int:
    """One after the other; a run that stops or diverges does not keep the others from being made."""
    scores: dict[int, Scores] = {}
    worst = 0
    with RunFolder(out, runs[0][0].config).locked(), call.interruption.answering(lambda: _between(out, runs[0][0].config)):
        for i, (folder, changed) in enumerate(runs):
            put(console, f"seed {folder.config.loop.seed}, run {i + 1} of {len(runs)}: {folder.path}")
            try:
                with folder.locked():
                    ended = _train.trained(folder, console, call, changed=changed)
            except NonFinite as error:
                worst = max(worst, say(in_flags(str(error), flag_names(type(chosen)))))
                continue
            if ended is None:
                return INTERRUPTED
            scores[folder.config.loop.seed] = ended.scores
            if ended.diverged is not None:
                say(_train.diverged(folder, ended.diverged))
                worst = max(worst, _train.DIVERGED)
        if scores:
            _conclude(out, scores, console)
        console.print(f"run folders: {out}/seed-...", **PLAIN)
    return worst


def _between(out: Path, config: AnyRun) -> str:
    again = f"throughtime train {config.task} --out {shlex.quote(str(out))} --resume"
    return f"interrupted; what has been trained is saved. Go on with:\n  {again}"


def _conclude(out: Path, scores: Mapping[int, Scores], console: Console) -> None:
    """Mean and standard deviation over the seeds, to the terminal and to scores.json; numbers that no seed changes are left out."""
    parts = {part: _numbers([of_seed[part] for of_seed in scores.values()]) for part in next(iter(scores.values()))}
    names = list(dict.fromkeys(name for numbers in parts.values() for name in numbers))
    about = f"mean ± sd of {len(scores)} seeds" if len(scores) > 1 else "one seed"
    rows = {name: [spread(parts[part].get(name, ())) for part in parts] for name in names}
    show_table(console, (about, *parts), rows)
    each = {str(seed): {part: score.as_dict() for part, score in of_seed.items()} for seed, of_seed in scores.items()}
    summary = {
        part: {name: {"mean": _mean(values), "sd": _sd(values)} for name, values in numbers.items()} for part, numbers in parts.items()
    }
    with suppress(OSError):  # a full disk: the scores are on the terminal, and every run has its own
        write_bytes(out / "scores.json", json.dumps({"seeds": each, "over_seeds": summary}, indent=1).encode())


def _numbers(scores: Sequence[AbstractScore]) -> dict[str, list[float]]:
    """What the seeds have measured, by name."""
    columns = {name: [score.as_dict().get(name) for score in scores] for name in scores[0].as_dict()}
    real = {name: [float(v) for v in values if isinstance(v, float)] for name, values in columns.items()}
    return {name: values for name, values in real.items() if len(values) == len(scores) and (len(set(values)) > 1 or len(values) == 1)}


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation (that of a sample, n − 1), as far as the digits mean something; empty of nothing.

    >>> spread([1.234, 1.240, 1.251])
    '1.2417 ± 0.0086'
    """
    if len(values) < 2:
        return f"{values[0]:.5g}" if values else ""
    mean, sd = _mean(values), _sd(values)
    digits = max(0, 1 - int(f"{sd:e}".partition("e")[2])) if 0 < sd < float("inf") else 4
    return f"{mean:.{digits}f} ± {sd:.{digits}f}"


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _sd(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 and all(abs(v) < float("inf") for v in values) else float("nan")
