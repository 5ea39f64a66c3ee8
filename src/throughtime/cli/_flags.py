"""Dataclasses to flags (tyro), alike for every verb."""

from collections.abc import Sequence
from typing import TypeVar

import tyro

Options = TypeVar("Options")


def parse(options: type[Options], arguments: Sequence[str], prog: str, description: str, default: Options | None = None) -> Options:
    """The options a user typed. Unknown or malformed flags end the program with exit code 2."""
    if default is None:
        plain = tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)(options)
        return tyro.cli(plain, prog=prog, description=description, args=list(arguments))
    pairs = tyro.conf.configure(tyro.conf.OmitArgPrefixes)(options)  # what is on by default may be repeated, or switched off
    return tyro.cli(pairs, prog=prog, description=description, args=list(arguments), default=default)
