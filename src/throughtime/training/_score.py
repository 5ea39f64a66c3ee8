"""What a measurement of a model has to tell, whatever the task."""

import abc
from typing import Any


class AbstractScore(abc.ABC):
    """How well a model does on data that it has not learned from."""

    @property
    @abc.abstractmethod
    def loss(self) -> float:
        """What validation compares: less is better."""

    @abc.abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Every number, by name, for metrics.jsonl and JSON."""

    @abc.abstractmethod
    def line(self) -> str:
        """The numbers that a person follows during training."""

    @abc.abstractmethod
    def table(self, name: str) -> dict[str, dict[str, str]]:
        """Rows of a table by name, and each row's cells by column; the data is called ``name``."""
