"""``throughtime sample``: let a trained model write."""

import sys

from .. import _check
from .._check import InputError
from ..training import Trained, load
from ._app import Call
from ._threads import use_threads
from ._verbs import Sample


def sample(chosen: Sample, call: Call) -> int:
    """The verb."""
    if 0 < chosen.temperature < 1e-3:
        raise InputError(f"--temperature is {chosen.temperature!r}; expected 0, or 0.001 or more. Use 0 for the likeliest symbol.")
    _check.positive("--length", chosen.length)
    _check.positive("--count", chosen.count, most=1_000_000)
    if chosen.top_k is not None:
        _check.positive("--top-k", chosen.top_k)
    use_threads(chosen.threads)
    trained = load(chosen.run, device=chosen.device)
    if not isinstance(trained, Trained):
        raise InputError(
            f"{chosen.run} is a run of train {trained.options.task}; expected one of train text. Use throughtime forecast for a table."
        )
    for i in range(chosen.count):
        seed = None if chosen.seed is None else chosen.seed + i
        for piece in trained.write(chosen.prompt, chosen.length, temperature=chosen.temperature, top_k=chosen.top_k, seed=seed):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n" if i + 1 == chosen.count else "\n\n")
    return 0
