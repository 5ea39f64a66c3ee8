"""Gradient methods as a person types them: ``full``, ``truncated:k1=16,k2=64``, ``sliding:lags=32``.

A name stands for a class, its options are the class's fields, and a field's type says how its value is read.
"""

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, final

from .._check import InputError
from ..gradients import (
    KFRTRL,
    RFLO,
    RTRL,
    UORO,
    AbstractFeedback,
    AbstractGradient,
    AdaptiveBPTT,
    BlockRTRL,
    CheckpointedBPTT,
    EProp,
    FullBPTT,
    RandomFeedback,
    RandomTruncatedBPTT,
    SlidingBPTT,
    SnAp,
    Symmetric,
    TruncatedBPTT,
)


@final
@dataclass(frozen=True)
class ShellMethod:
    """A gradient method as it is typed: its name, and options that suit a first try."""

    name: str
    method: type[AbstractGradient]
    usual: str = ""

    @property
    def spec(self) -> str:
        """What to type for that first try."""
        return f"{self.name}:{self.usual}" if self.usual else self.name


METHODS = (
    ShellMethod("full", FullBPTT),
    ShellMethod("truncated", TruncatedBPTT, "k1=16,k2=32"),
    ShellMethod("sliding", SlidingBPTT, "lags=16"),
    ShellMethod("random-truncated", RandomTruncatedBPTT, "mean_length=16"),
    ShellMethod("adaptive", AdaptiveBPTT, "tolerance=0.5,max_lags=64"),
    ShellMethod("checkpointed", CheckpointedBPTT, "budget=64MB"),
    ShellMethod("rtrl", RTRL),
    ShellMethod("block-rtrl", BlockRTRL, "block=32"),
    ShellMethod("snap", SnAp, "order=1"),
    ShellMethod("uoro", UORO),
    ShellMethod("kfrtrl", KFRTRL),
    ShellMethod("rflo", RFLO),
    ShellMethod("eprop", EProp),
)


# Types whose values are words.
_WORDS: dict[Any, dict[str, Any]] = {
    bool: {"true": True, "false": False},
    type(None): {"none": None},
    AbstractFeedback: {"symmetric": Symmetric(), "random": RandomFeedback()},
}


def method_of(spec: str) -> AbstractGradient:
    """The method that ``name:option=value,option=value`` stands for.

    Raises:
        InputError: an unknown name or option, a value that cannot be read or is refused by the method, an option that must be given.

    >>> method_of("truncated:k1=16,k2=64")
    TruncatedBPTT(k1=16, k2=64, clip_adjoint=None)
    """
    name, _, rest = spec.partition(":")
    found = next((row for row in METHODS if row.name == name), None)
    if found is None:
        raise InputError(
            f"{spec!r} names no gradient method; expected one of {', '.join(row.name for row in METHODS)}. Options follow a "
            f"colon: {METHODS[1].spec}"
        )
    return _build(found, _options(found, spec, rest))


def with_clip(method: AbstractGradient, clip_step: float) -> AbstractGradient:
    """The method with the clip at each time step that the option ``clip_step`` asks for; 0: as it is.

    Raises:
        InputError: it has no adjoint to clip, or a clip of its own.
    """
    if not clip_step:
        return method
    clips = next((f for f in fields(typing.cast(Any, method)) if f.name == "clip_adjoint"), None)
    if clips is None:
        raise InputError(
            f"`clip_step` is {clip_step:g} and `gradient` is {method!r}, which sends no gradient back through time to clip; expected one "
            "that does. Leave `clip_step` out, or choose another method."
        )
    if getattr(method, clips.name) is not None:
        raise InputError(f"`clip_step` is {clip_step:g} and `gradient` is {method!r}; expected the clip in one of them. Leave one out.")
    return replace(typing.cast(Any, method), clip_adjoint=clip_step)


def _options(row: ShellMethod, spec: str, rest: str) -> dict[str, Any]:
    """The options as typed, read by their fields' types."""
    hints = typing.get_type_hints(row.method)
    names = [f.name for f in fields(typing.cast(Any, row.method))]
    found: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        option, equals, value = part.partition("=")
        if option not in names or not equals or option in found:
            wrong = "is given twice" if option in found else f"is no option of {row.name}" if option not in names else "has no value"
            wanted = f"expected {_usage(row)}. Options: {', '.join(names)}." if names else f"it has none. Such as: {row.name}"
            raise InputError(f"the gradient method is {spec!r}, but {option!r} {wrong}; {wanted}")
        found[option] = _read(row, option, value, hints[option])
    return found


def _build(row: ShellMethod, options: dict[str, Any]) -> AbstractGradient:
    missing = [f.name for f in fields(typing.cast(Any, row.method)) if _must_be_given(f) and f.name not in options]
    if missing:
        raise InputError(
            f"the gradient method {row.name} is given without {' and '.join(missing)}; expected {_usage(row)}. Add it after a colon."
        )
    if not 0 <= options.get("seed", 0) < 2**63:
        raise InputError(f"seed of the gradient method {row.name} is {options['seed']}; expected an integer from 0 to 2**63 - 1.")
    return row.method(**options)


def _must_be_given(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _usage(row: ShellMethod) -> str:
    return f"{row.name}:OPTION=VALUE,…, such as {row.spec}"


def _read(row: ShellMethod, option: str, value: str, hint: Any) -> Any:
    """A value of one of the types that a field may have; the first that can be read."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    for kind in kinds:
        try:
            return _read_as(kind, value)
        except ValueError:
            continue
    wanted = " or ".join(_word(kind) for kind in kinds)
    raise InputError(f"{option} of the gradient method {row.name} is {value!r}; expected {wanted}. Such as: {row.spec}")


def _read_as(kind: Any, value: str) -> Any:
    """Raises ValueError where it is no such value."""
    words = _WORDS.get(kind)
    words = {str(word): word for word in typing.get_args(kind)} if typing.get_origin(kind) is typing.Literal else words
    if words is None:
        return typing.cast("Callable[[str], Any]", kind)(value)
    if value.lower() not in words:
        raise ValueError(value)
    return words[value.lower()]


def _word(kind: Any) -> str:
    """A type as a sentence calls it."""
    if kind in _WORDS:
        return " or ".join(_WORDS[kind])
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    return {int: "an integer", float: "a number", str: "a word"}[kind]
