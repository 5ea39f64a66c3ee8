"""``throughtime evaluate``: how well a trained model predicts."""

import json
from functools import partial

from rich.console import Console

from .. import _check
from .._bar import bar
from .._check import InputError
from .._console import PLAIN, put
from ..training import LabelScore, TrainedClassifier, TrainedForecaster, TrainedFrames, evaluate as score, load
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
    if isinstance(trained, TrainedForecaster):
        return _backtest(trained, chosen)
    if isinstance(trained, TrainedFrames | TrainedClassifier):
        return _of_sequences(trained, chosen)
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


def _backtest(trained: TrainedForecaster, chosen: Evaluate) -> int:
    """Of series: every origin of a part, and forecasts that need no model beside it."""
    if chosen.streams is not None:
        raise InputError("--streams is given for a run of train series; expected it with a run of train text. Leave it out.")
    part = chosen.section or "test"
    name = part if chosen.data is None else chosen.data.name
    with bar(Console(stderr=True)) as show:
        result = trained.evaluate(part, data=chosen.data, progress=partial(show, f"measuring {name}"))
    if chosen.json:
        print(json.dumps({"part": name, **result.as_dict()}))
    else:
        show_scores(Console(), {name: result})
    return 0


def _of_sequences(trained: TrainedFrames | TrainedClassifier, chosen: Evaluate) -> int:
    """Of frames and labels: a part of the run's own, or another file; of labels a picture too."""
    if chosen.streams is not None:
        raise InputError(f"--streams is given for a run of train {trained.options.task}; expected whole sequences. Leave it out.")
    part = None if chosen.data is not None else chosen.section or "test"
    name = part or (chosen.data or chosen.run).name
    with bar(Console(stderr=True)) as show:
        result = trained.evaluate(part, data=chosen.data, progress=partial(show, f"measuring {name}"))
    more = {"by_class": result.by_class(), "confusion": result.confusion.tolist()} if isinstance(result, LabelScore) else {}
    if isinstance(result, LabelScore):
        result.draw(chosen.run / "confusion.png")
    if chosen.json:
        print(json.dumps({"part": name, **result.as_dict(), **more}))
        return 0
    show_scores(Console(), {name: result})
    if more:
        Console().print(f"picture: {chosen.run / 'confusion.png'}", **PLAIN)
    return 0
