"""The command: which verb, and what becomes of its errors."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import TextIOWrapper

from rich.console import Console

from .._check import InputError, NonFinite
from .._version import __version__
from ._compare_gradients import compare_gradients
from ._demo import demo
from ._evaluate import evaluate
from ._export import export
from ._flag_names import in_flags
from ._flow import flow
from ._info import info
from ._sample import sample
from ._signals import handling, interrupt
from ._train import train_text

_VERBS = {
    ("train", "text"): (train_text, "train a language model on a text"),
    ("evaluate",): (evaluate, "measure a trained model on held-out text"),
    ("sample",): (sample, "let a trained model write"),
    ("export",): (export, "write a trained model for other runtimes"),
    ("flow",): (flow, "see what the gradient does through time"),
    ("compare-gradients",): (compare_gradients, "measure the gradient methods on one batch"),
    ("demo",): (demo, "train for a minute on text that Python carries"),
    ("info",): (info, "versions, device, threads and kernels"),
}
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_MEMORY = ("allocate memory", "out of memory", "Storage size calculation overflowed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code: 0 done, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    errors = Console(stderr=True)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal, or a file name, may not know every character
    if words[:1] in (["--version"], ["-V"]):
        print(f"throughtime {__version__}")
        return 0
    verb = next((v for v in _VERBS if tuple(words[: len(v)]) == v), None)
    if verb is None:
        wants_help = not words or words[0] in ("-h", "--help") or (words[0] == "train" and words[1:2] in ([], ["-h"], ["--help"]))
        return _overview(Console() if wants_help else errors, [] if wants_help else words)
    with handling(interrupt):
        return _outcome(lambda: _VERBS[verb][0](words[len(verb) :], " ".join(("throughtime", *verb))), errors)


def _outcome(work: Callable[[], int], errors: Console) -> int:
    """The exit code of some work; what goes wrong becomes a sentence."""
    try:
        code = work()
        sys.stdout.flush()
        return code
    except (InputError, NonFinite, NotImplementedError) as error:
        return _say(errors, in_flags(str(error)))
    except KeyboardInterrupt:
        errors.print("interrupted; what was saved before stands")
        return 130
    except BrokenPipeError:  # the reader of our output has left, as head does
        _abandon_output()
        return 0
    except OSError as error:
        _abandon_output()
        return _say(errors, _about_file(error))
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or any(word in str(error) for word in _NO_MEMORY):
            return _say(errors, "there is not enough memory for these sizes. Lower --hidden, --layers, --batch-size or --bptt.")
        raise


def _about_file(error: OSError) -> str:
    if error.errno in _FULL_DISK or any(word in str(error) for word in ("No space left", "File too large", "Disk quota")):
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"the disk is full{where}; expected room for what is written. What was saved before is whole: free some space, and run it "
            "again (a run that had begun goes on with --resume)."
        )
    return f"{error.filename or 'a file'}: {error.strerror or error}; expected to read and write there. Check the path and its permissions."


def _abandon_output() -> None:
    """Nothing more can be written; let the interpreter's last flush not stumble over it."""
    with suppress(OSError, ValueError):  # a test's output is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(errors: Console, message: str) -> int:
    errors.print(f"throughtime: {message}", style="red", soft_wrap=True, highlight=False, markup=False)
    return 2


def _overview(console: Console, unknown: list[str]) -> int:
    if unknown:
        _say(console, f"{' '.join(unknown[:2])!r} is none of the verbs; expected one of these:")
    console.print("throughtime: recurrent networks, trained by backpropagation through time\n")
    for verb, (_, what) in _VERBS.items():
        console.print(f"  throughtime {' '.join(verb):<17} {what}", highlight=False)
    console.print("\nEach verb explains itself with --help; --version tells the version.", highlight=False)
    return 2 if unknown else 0
