"""``throughtime sample``: let a trained model write."""

import sys
from pathlib import Path

from rich.console import Console

from .. import _check
from .._check import InputError
from .._console import PLAIN
from ..training import Trained, TrainedFrames, check_new_file, load, write_pieces_file
from ._app import Call
from ._threads import use_threads
from ._verbs import Sample


def sample(chosen: Sample, call: Call) -> int:
    """The verb."""
    if 0 < chosen.temperature < 1e-3:
        raise InputError(f"--temperature is {chosen.temperature!r}; expected 0, or 0.001 or more. Use 0 for the likeliest symbol.")
    if chosen.length is not None:
        _check.positive("--length", chosen.length)
    _check.positive("--count", chosen.count, most=1_000_000)
    if chosen.top_k is not None:
        _check.positive("--top-k", chosen.top_k)
    use_threads(chosen.threads)
    trained = load(chosen.run, device=chosen.device)
    if isinstance(trained, TrainedFrames):
        return _sample_frames(trained, chosen)
    if not isinstance(trained, Trained):
        verb = {"series": "throughtime forecast for a table", "labels": "throughtime predict for labels"}[trained.options.task]
        raise InputError(f"{chosen.run} is a run of train {trained.options.task}; expected one of train text or train frames. Use {verb}.")
    if chosen.out is not None:
        raise InputError(f"--out is {chosen.out} for a run of train text; expected none, since a text is printed. Leave it out.")
    for i in range(chosen.count):
        for piece in trained.write(
            chosen.prompt, chosen.length or 500, temperature=chosen.temperature, top_k=chosen.top_k, seed=_seed(chosen, i)
        ):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n" if i + 1 == chosen.count else "\n\n")
    return 0


def _sample_frames(trained: TrainedFrames, chosen: Sample) -> int:
    """Pieces into a file."""
    out, length = chosen.out or Path("piece.npy"), chosen.length or 100
    if chosen.top_k is not None:
        raise InputError("--top-k is given for a run of train frames; expected it for a text, whose symbols have a rank. Leave it out.")
    if out.suffix not in (".npy", ".npz"):
        raise InputError(f"--out is {out}; expected a name that ends in .npy or .npz. Name it {out.stem}.npy.")
    check_new_file(out)
    pieces = [trained.sample(chosen.prompt, length, temperature=chosen.temperature, seed=_seed(chosen, i)) for i in range(chosen.count)]
    write_pieces_file(pieces, out)
    begun = len(pieces[0]) - length
    several = "" if chosen.count == 1 else f"{chosen.count:,} pieces, each "
    Console().print(f"wrote {out}: {several}{begun:,} frames of the prompt and {length:,} after them", **PLAIN)
    return 0


def _seed(chosen: Sample, i: int) -> int | None:
    return None if chosen.seed is None else chosen.seed + i
