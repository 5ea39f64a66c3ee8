"""A model from plain values: what a JSON file can say of it."""

from collections.abc import Mapping
from typing import Any, TypeVar

from .. import _check
from ..cells import GRU, LSTM, AbstractCell, Elman
from ._base import AbstractModel

CELLS: dict[str, AbstractCell] = {"rnn": Elman(), "gru": GRU(), "lstm": LSTM()}

M = TypeVar("M", bound=AbstractModel)


def from_plain(kind: type[M], config: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> M:
    """A model whose arguments are plain values.

    Args:
        kind: the model's class.
        config: its arguments.
        named: for an argument that is an object, the objects by name.

    Raises:
        InputError: a name that is none, an argument that the class does not have.
    """
    options = dict(config)
    for name, choices in named.items():
        if name in options:
            _check.one_of(name, options[name], list(choices))
            options[name] = choices[options[name]]
    try:
        return kind(**options)
    except TypeError as error:
        raise _check.InputError(f"config has arguments that do not fit ({error}); expected those of {kind.__name__}. Mend it.") from None
