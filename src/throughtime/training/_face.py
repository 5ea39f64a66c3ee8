"""What every run gives in Python, whatever its task: the same verbs, each of which answers or says why there is no answer."""

import abc
from pathlib import Path
from typing import Any, ClassVar, Generic, NoReturn, TypeVar

from .._check import InputError
from ..models import AbstractModel
from ._score import AbstractScore
from ._stream import Stream

Model = TypeVar("Model", bound=AbstractModel)


class AbstractTrained(abc.ABC, Generic[Model]):
    """A trained run, as ``load`` returns it.

    ``evaluate`` and ``stream`` are there for every task; ``sample``, ``forecast`` and ``predict`` where they mean something.

    Attributes:
        model: the best weights, in evaluation mode.
        options: all that was chosen.
        metrics: the rows of metrics.jsonl, a dict a row.
        folder: where it is.
        kind: what the run is, for messages.
        instead: what to call in place of a verb that it does not have.
    """

    model: Model
    options: Any
    metrics: list[dict[str, Any]]
    folder: Path
    kind: ClassVar[str]
    instead: ClassVar[str]

    @abc.abstractmethod
    def evaluate(self, *args: Any, **kwargs: Any) -> AbstractScore:
        """How good it is on what was held out, or on other data."""

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """More of what it has learned, drawn at random."""
        self._refuse("sample")

    def forecast(self, *args: Any, **kwargs: Any) -> Any:
        """What comes after the end of a series."""
        self._refuse("forecast")

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """What it answers for data that is there as a whole."""
        self._refuse("predict")

    def stream(self, streams: int = 1) -> Any:
        """The run as a ``Stream``: one step at a time, its state kept."""
        return Stream(self.model, streams)

    def _refuse(self, verb: str) -> NoReturn:
        raise InputError(f"{self.folder} is {self.kind}, which has no {verb}(); expected a verb that it has. Use {self.instead}.")
