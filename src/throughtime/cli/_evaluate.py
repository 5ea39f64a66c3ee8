"""``throughtime evaluate``: how well a trained model predicts."""

import json
from functools import partial

from rich.console import Console

from .. import _check
from .._bar import bar
from .._check import InputError
from .._console import put
from ..training import evaluate as score, load
from ._app import Call
from ._table import show_scores
from ._threads import use_threads
from ._verbs import Evaluate


def evaluate(chosen: Evaluate, call: Call) -> int:
    """The verb."""
    use_threads(chosen.threads)
    if chosen.streams is not None:
        _check.positive("--streams", chosen.streams)
    if chosen.data is not None and chosen.section is not None:
        raise InputError("--data and --section are given together; expected one text to measure. Leave one out.")
    trained = load(chosen.run, device=chosen.device)
    with bar(Console(stderr=True)) as show:
        if chosen.data is not None:
            name = chosen.data.name
            result = trained.evaluate(
                chosen.data, encoding=chosen.encoding, streams=chosen.streams, progress=partial(show, f"measuring {name}")
            )
        else:
            name, section = trained.held_out(chosen.section)
            result = score(trained.model, section, streams=chosen.streams, progress=partial(show, f"measuring {name}"))
    if chosen.json:
        print(json.dumps({"text": name, **result.as_dict()}))
    else:
        show_scores(Console(), {name: result})
        if result.unknown and result.unknown_bits is None:
            put(Console(), f"no bits/character: {result.unknown:,} symbols are unknown, and the run does not say how they are spelled")
    return 0
