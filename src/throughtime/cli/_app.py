"""The command: which verb, and what becomes of its errors.

Nothing heavy is imported before the words have been read: a wrong flag is told at once.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from inspect import cleandoc
from typing import Any, final

from .._errors import InputError, NonFinite
from .._processes import rank
from .._version import __version__
from ._interrupt import INTERRUPTED, Interruption, end_process, interruptible


@final
@dataclass(frozen=True)
class Verb:
    """What can be typed, and where it is done."""

    flags: str  # the dataclass in _verbs
    place: str  # module and function
    what: str


VERBS = {
    ("train", "text"): Verb("TrainText", "_seeds.train", "train a language model on a text"),
    ("train", "series"): Verb("TrainSeries", "_seeds.train", "train a forecaster on a table"),
    ("train", "frames"): Verb("TrainFrames", "_seeds.train", "train a model of frames, such as piano rolls"),
    ("train", "labels"): Verb("TrainLabels", "_seeds.train", "train a classifier of sequences"),
    ("evaluate",): Verb("Evaluate", "_evaluate.evaluate", "measure a trained model on held-out data"),
    ("forecast",): Verb("MakeForecast", "_forecast.forecast", "what comes after the end of a table"),
    ("predict",): Verb("Predict", "_predict.predict", "the labels of sequences"),
    ("sample",): Verb("Sample", "_sample.sample", "let a trained model write"),
    ("export",): Verb("Export", "_export.export", "write a trained model for other runtimes"),
    ("flow",): Verb("ShowFlow", "_flow.flow", "see what the gradient does through time"),
    ("compare-gradients",): Verb("CompareGradients", "_compare_gradients.compare_gradients", "measure the gradient methods on one batch"),
    ("bench",): Verb("Bench", "_bench.bench", "how fast this machine is, beside torch and JAX"),
    ("runs",): Verb("Runs", "_runs.runs", "a table of the runs in a folder"),
    ("data",): Verb("Data", "_data.data", "data sets by name"),
    ("demo",): Verb("Demo", "_demo.demo", "train for a minute on text that Python carries"),
    ("cache",): Verb("Cache", "_cache.cache", "compiled kernels of cells of your own"),
    ("completion",): Verb("Completion", "_completion.completion", "let the shell complete what is typed"),
    ("info",): Verb("Info", "_info.info", "versions, device, threads and kernels"),
}


@final
@dataclass(frozen=True)
class Call:
    """A verb as it was typed."""

    prog: str
    words: Sequence[str]  # after the verb
    interruption: Interruption


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code: 0 done, 1 trained to nothing, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with interruptible() as interruption:
        _open_outputs()
        code = _outcome(lambda: _run(words, interruption), interruption)
        if arguments is None:
            end_process(code)  # the interpreter's farewell to torch takes a second, in which no Ctrl-C is answered
        return code


def _run(words: list[str], interruption: Interruption) -> int:
    if words[:1] in (["--version"], ["-V"]):
        print(f"throughtime {__version__}")
        return 0
    name = next((v for v in VERBS if tuple(words[: len(v)]) == v), None)
    if name is None:
        return _overview(words)
    from . import _flags, _verbs

    verb, rest, prog = VERBS[name], words[len(name) :], " ".join(("throughtime", *name))
    flags = getattr(_verbs, verb.flags)
    try:
        chosen = _flags.parse(flags, rest, prog, cleandoc(flags.__doc__))
    except _flags.Help as text:
        print(text)
        return 0
    work = _loaded(verb.place)
    interruption.orderly()
    _let_named_cell_in(chosen)
    try:
        return work(chosen, Call(prog, rest, interruption))
    except (InputError, NonFinite, NotImplementedError) as error:
        from ._flag_names import in_flags

        return say(in_flags(str(error), _flags.flag_names(_verbs.TrainText) | _flags.flag_names(flags)))


def _let_named_cell_in(chosen: Any) -> None:
    """A MODULE:CLASS that was typed may be imported; one that stands in a file may not."""
    cell = getattr(getattr(chosen, "network", None), "cell", "")
    if ":" in cell:
        from ..training import name_cell

        name_cell(cell)


def _loaded(place: str) -> Callable[[Any, Call], int]:
    """A function of a module of this room; whoever waits for torch to be imported sees that something happens."""
    module, function = place.split(".")
    waiting = f"{__package__}.{module}" not in sys.modules and sys.stderr.isatty()
    if waiting:
        sys.stderr.write("loading ...")
        sys.stderr.flush()
    found = getattr(import_module(f".{module}", __package__), function)
    if waiting:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
    return found


def _overview(words: list[str]) -> int:
    """Every verb in a line; for words that are none, the nearest."""
    from difflib import get_close_matches

    verbs = [" ".join(v) for v in VERBS]
    asks = ("-h", "--help", "--help-all")
    if (words and words[0] not in (*asks, "train")) or (words[:1] == ["train"] and words[1:] and words[1] not in asks):
        typed = " ".join(words[:2] if words[0] == "train" else words[:1])
        near = [verb for verb in verbs if typed and verb.startswith(typed)] or get_close_matches(typed, verbs, 1, 0.5)
        raise InputError(
            f"{typed!r} is no verb of throughtime; expected {f'perhaps {near[0]!r}' if near else ', '.join(verbs)}. "
            "List them: throughtime --help"
        )
    print("throughtime: recurrent networks, trained by backpropagation through time\n")
    for verb in VERBS:
        print(f"  throughtime {' '.join(verb):<17} {VERBS[verb].what}")
    print("\nEach verb explains itself with --help; --version tells the version.")
    return 0


def _outcome(work: Callable[[], int], interruption: Interruption) -> int:
    """The exit code of some work; what goes wrong becomes a sentence."""
    try:
        try:
            code = work()
            sys.stdout.flush()
            return code
        finally:
            interruption.over()
    except InputError as error:
        return say(str(error))
    except KeyboardInterrupt:
        interruption.claim()
        say(interruption.last_word(), name="")
        return INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):  # rich makes one of the other
            raise
        _abandon_output()
        say("nobody reads what is printed here any more; the rest is not printed.")
        return 0  # the reader, such as head, had what it wanted
    except OSError as error:
        _abandon_output()
        return say(_about_file(error), of_all=False)
    except (RuntimeError, MemoryError) as error:
        if ran_out_of_memory(error):
            return say(
                "there is not enough memory for these sizes. Lower --hidden, --layers, --batch-size or --bptt, "
                "or keep less of a long window: --gradient checkpointed:budget=64MB.",
                of_all=False,
            )
        raise


_FULL_DISK = ("No space left", "File too large", "Disk quota")
_NO_MEMORY = ("allocate memory", "out of memory", "Storage size calculation overflowed")


def ran_out_of_memory(error: BaseException) -> bool:
    """Python's own word for it, or one of torch's."""
    return isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY)


def _about_file(error: OSError) -> str:
    if error.errno == errno.EBADF and not error.filename:
        return "the standard output is closed; expected somewhere to print to. Send it to a file, or to /dev/null."
    if any(word in str(error) for word in _FULL_DISK):
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"the disk is full{where}; expected room for what is written. What was saved before is whole: free some space, and run it "
            "again (a run that had begun goes on with --resume)."
        )
    return f"{error.filename or 'a file'}: {error.strerror or error}; expected to read and write there. Check the path and its permissions."


def _open_outputs() -> None:
    """Give a closed output a place: else the next file that is opened would take it. A terminal may not know every character.

    The standard output's place cannot be written, so that whoever prints is told.
    """
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            with suppress(OSError):
                while (opened := os.open(os.devnull, os.O_RDONLY if number < 2 else os.O_WRONLY)) < number:
                    pass
                if opened > number:
                    os.close(opened)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _abandon_output() -> None:
    """Nothing more can be written; let the interpreter's last flush not stumble over it."""
    with suppress(OSError, ValueError):  # a test's output is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str, name: str = "throughtime: ", *, of_all: bool = True) -> int:
    """To the standard error, red where it is a terminal; the exit code of bad input.

    Of several processes that share a training, the first says what all of them would say.
    """
    if of_all and rank():
        return 2
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    line = f"{name}{message}" if of_all or not rank() else f"throughtime (process {rank()}): {message}"
    with suppress(OSError, ValueError):  # nobody may be there to read it
        sys.stderr.write(f"\x1b[31m{line}\x1b[0m\n" if coloured else f"{line}\n")
        sys.stderr.flush()
    return 2
