"""Options in a TOML file: ``--print-config`` writes what ``--config`` reads."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import msgspec

from .._errors import InputError
from ..training import AnyRun, path_of_string


def read_config(path: Path, kind: type[AnyRun]) -> AnyRun:
    """The options of a run of some kind in a file: a table for each group of flags, or all of them without one.

    Raises:
        InputError: it cannot be read, is no TOML, or has names or values that are none.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a TOML file of options. Check the path.") from None
    except ValueError as error:
        raise InputError(f"{path} is not TOML ({error}); expected what --print-config writes. Mend that line.") from None
    try:
        return msgspec.convert(_by_group(path, given, kind), kind, dec_hook=path_of_string)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} cannot be used: {error}; expected what --print-config writes. Mend that value.") from None


def as_toml(run: AnyRun) -> str:
    """All of a run's options; those that are not given stand in a comment."""
    lines = []
    for group, options in asdict(cast(Any, run)).items():
        lines.append(f"[{group}]")
        lines += [f"# {name} =" if value is None else f"{name} = {_word(value)}" for name, value in options.items()]
        lines.append("")
    return "\n".join(lines).rstrip()


def _word(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_word, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)


def _by_group(path: Path, given: Mapping[str, Any], kind: type[AnyRun]) -> dict[str, dict[str, Any]]:
    groups = {group.name: {option.name for option in fields(_class_of(group))} for group in fields(cast(Any, kind))}
    found: dict[str, dict[str, Any]] = {name: {} for name in groups}
    for name, value in given.items():
        inside = value.items() if name in groups and isinstance(value, dict) else ((name, value),)
        for option, its_value in inside:
            option = option.replace("-", "_")
            group = next((g for g, options in groups.items() if option in options and (name not in groups or g == name)), None)
            if group is None:
                near = difflib.get_close_matches(option, set().union(*groups.values()), 1, 0.6)
                expected = f"perhaps {near[0]!r}" if near else f"the flags of throughtime train {kind.task}"
                raise InputError(f"{path} has {option!r}, which is no option; expected {expected}. Write one with --print-config.")
            found[group][option] = its_value
    return found


def _class_of(group: Any) -> type:
    return group.type
