"""Dataclasses to flags (tyro), alike for every verb."""

from collections.abc import Sequence
from typing import TypeVar

import tyro

Options = TypeVar("Options")


def parse(options: type[Options], arguments: Sequence[str], prog: str, description: str, default: Options | None = None) -> Options:
    """The options a user typed. Unknown or malformed flags end the program with exit code 2."""
    chosen = tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)(options)
    if default is None:
        return tyro.cli(chosen, prog=prog, description=description, args=list(arguments))
    return tyro.cli(chosen, prog=prog, description=description, args=list(arguments), default=default)
