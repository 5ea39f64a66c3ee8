"""``throughtime train text``: from files to a run folder."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from .._check import InputError
from ..data import Corpus
from ..training import (
    Ended,
    LoopOptions,
    NetworkOptions,
    OptimiserOptions,
    RunFolder,
    TextOptions,
    TextRun,
    bar,
    begin,
    train,
    training_stream,
)
from ._flags import parse
from ._signals import handling
from ._table import scores_table

_MAY_CHANGE = {
    *("lr", "momentum", "weight_decay", "schedule", "warmup", "decay", "decay_after", "clip", "clip_value", "clip_step"),
    *("epochs", "steps", "minutes", "eval_every", "eval_tokens", "save_every", "threads", "kernels", "device", "watch_flow", "omega"),
}


_ABOUT = """Train a recurrent language model on a text.

throughtime train text book.txt --hidden 512 --epochs 20 --out runs/book

throughtime train text --out runs/book --resume

throughtime sample runs/book --prompt 'It was '"""


@dataclass(frozen=True)
class TrainText:
    """Train a language model on a text by truncated backpropagation through time."""

    text: TextOptions = field(default_factory=TextOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(unless given: runs/, the text's name, the cell and a number)")
    ] = None
    """The run folder."""
    resume: bool = False
    """Go on with the run in --out, from where it was saved. Its text and network stay; the rate, clips and budget may be given anew."""
    overwrite: bool = False
    """Replace the run in --out."""


def train_text(arguments: Sequence[str], prog: str) -> int:
    """The verb."""
    console = Console()
    if "--resume" in arguments:
        return run(_resumed(arguments, prog), console)
    chosen = parse(TrainText, arguments, prog, _ABOUT)
    return run(prepare(chosen, console), console)


def prepare(chosen: TrainText, console: Console) -> RunFolder:
    """Check every choice, read the text, and make the run folder; nothing is left behind if that fails."""
    config = TextRun(chosen.text, chosen.network, chosen.optimiser, chosen.loop)
    config.check()
    out = chosen.out or _free_name(chosen)
    RunFolder.refuse_existing(out, overwrite=chosen.overwrite)
    config.network.check_memory(2, config.loop.batch_size, config.loop.bptt)  # refuses what does not go before the text is read
    place = out.resolve()
    with _folder_beside(place) as aside:
        prepared = RunFolder(aside, config)
        corpus = _read(config, aside, console)
        training_stream(corpus, config.loop)
        config.network.check_memory(corpus.vocabulary.size, config.loop.batch_size, config.loop.bptt)
        prepared.write_config()
        begin(prepared)
        return RunFolder.create(out, prepared)


def run(folder: RunFolder, console: Console) -> int:
    """Train to the end or to the first Ctrl-C, and say what came of it."""
    with _stop_at_ctrl_c() as stop:
        ended = train(folder, console=console, stop=stop)
    if ended.why == "interrupted":
        console.print(
            f"\ninterrupted after step {ended.step:,}; the whole state is saved in {folder.path}. Go on with:\n"
            f"  throughtime train text --out {shlex.quote(str(folder.path))} --resume", soft_wrap=True, highlight=False, markup=False,
        )  # fmt: skip
        return 130
    _conclude(folder, ended, console)
    return 0


def _resumed(arguments: Sequence[str], prog: str) -> RunFolder:
    """The folder named by --out, with what was given anew put into its configuration."""
    flags = list(arguments)
    out = next((Path(flags[i + 1]) for i, a in enumerate(flags[:-1]) if a == "--out"), None)
    out = out or next((Path(a.removeprefix("--out=")) for a in flags if a.startswith("--out=")), None)
    if out is None:
        raise InputError("--resume is given without --out; expected the run folder to go on with. Name it: --out RUN --resume")
    folder = RunFolder.open(out)
    stored = folder.config
    default = TrainText(stored.text, stored.network, stored.optimiser, stored.loop, out, resume=True)
    chosen = parse(TrainText, arguments, prog, "Go on with a run.", default)
    if chosen.overwrite:
        raise InputError("--resume and --overwrite are given together; expected one of them. Leave one out.")
    config = _merged(stored, TextRun(chosen.text, chosen.network, chosen.optimiser, chosen.loop))
    config.check()
    folder = RunFolder(out, config)
    if config != stored:
        folder.write_config()
    return folder


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
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _free_name(chosen: TrainText) -> Path:
    stem = chosen.text.files[0].stem if chosen.text.files else "text"
    name = f"{stem}-{chosen.network.cell}{chosen.network.hidden}"
    number = 1
    while (path := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return path


def _read(config: TextRun, folder: Path, console: Console) -> Corpus:
    text = config.text
    with bar(console) as show:
        corpus = Corpus.build(
            text.source(), folder, level=text.level, vocabulary_size=text.vocab_size, min_count=text.min_count, progress=show
        )
    sizes = "  ".join(f"{name} {len(s.tokens):,}" for name, s in corpus.sections.items() if len(s.tokens))
    console.print(f"{corpus.vocabulary.size:,} symbols at level {text.level}; {sizes}", highlight=False)
    return corpus


def _conclude(folder: RunFolder, ended: Ended, console: Console) -> None:
    if ended.scores:
        console.print(scores_table(ended.scores))
    console.print(f"run folder: {folder.path}", soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _stop_at_ctrl_c() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C, or a polite kill, asks for a stop after the step; a second one ends the program at once."""
    asked = False

    def ask(signum: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    with handling(ask):
        yield lambda: asked


@contextmanager
def _folder_beside(place: Path) -> Iterator[Path]:
    """A new folder that takes its name later; if it never does, nothing of it is left, nor of folders made for it."""
    made = [folder for folder in place.parents if not folder.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    aside.chmod(0o777 & ~_umask())
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):  # somebody else has put something there
            for folder in made:
                folder.rmdir()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
