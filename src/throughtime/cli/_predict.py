"""``throughtime predict``: the labels of sequences."""

from rich.console import Console

from .._check import InputError
from .._console import PLAIN
from ..training import TrainedClassifier, check_new_file, load, write_predictions
from ._app import Call
from ._threads import use_threads
from ._verbs import Predict


def predict(chosen: Predict, call: Call) -> int:
    """The verb."""
    check_new_file(chosen.out)
    use_threads(chosen.threads)
    trained = load(chosen.run, device=chosen.device)
    if not isinstance(trained, TrainedClassifier):
        raise InputError(f"{chosen.run} is a run of train {trained.options.task}; expected one of train labels. Name another run.")
    found = trained.predict(chosen.data)
    write_predictions(found, chosen.out)
    Console().print(f"wrote {chosen.out}: {len(found.labels):,} labels of {len(set(found.ids)):,} sequences", **PLAIN)
    return 0
