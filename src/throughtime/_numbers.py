"""Checks of numbers and words. This file imports nothing of torch, so that the command reports a wrong flag at once."""

import math
import os
from collections.abc import Sequence

from ._errors import InputError


def counted(number: int, noun: str) -> str:
    """A number of things, in English.

    >>> counted(1, "step"), counted(1200, "step")
    ('1 step', '1,200 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def positive(name: str, value: int, *, most: int = 2**31 - 1, remedy: str = "") -> int:
    """An integer size in [1, most]."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InputError(f"{name} is {value!r}; expected an integer from 1 to {most:,}. {remedy}".rstrip())
    return value


def at_least(name: str, value: float, least: float, *, remedy: str = "") -> float:
    """A finite number not below ``least``."""
    if not math.isfinite(value) or value < least:
        raise InputError(f"{name} is {value!r}; expected a finite number of at least {least:g}. {remedy}".rstrip())
    return value


def above_zero(name: str, value: float, *, remedy: str = "") -> float:
    """A finite number above 0."""
    if not math.isfinite(value) or value <= 0:
        raise InputError(f"{name} is {value!r}; expected a finite number above 0. {remedy}".rstrip())
    return value


def seed(value: int) -> int:
    """What torch's generators take, without the negative numbers that stand for large ones."""
    if not 0 <= value < 2**63:
        raise InputError(f"`seed` is {value}; expected an integer from 0 to 2**63 - 1.")
    return value


def fraction(name: str, value: float) -> float:
    """A probability in [0, 1)."""
    if not 0 <= value < 1:
        raise InputError(f"{name} is {value!r}; expected a number in [0, 1).")
    return value


def one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """One of a few words."""
    if value not in choices:
        raise InputError(f"{name} is {value!r}; expected {' or '.join(map(repr, choices))}.")


def split(value: Sequence[float]) -> tuple[float, float, float]:
    """Shares of a text for training, validation and test."""
    shares = tuple(value)
    if len(shares) != 3 or any(not 0 <= s <= 1 for s in shares) or abs(sum(shares) - 1) > 1e-6 or shares[0] == 0:
        raise InputError(
            f"`split` is {','.join(f'{s:g}' for s in shares)}; expected three shares for training, validation and test, each from 0 to 1, "
            "the first above 0, that add up to 1, such as 0.9,0.05,0.05."
        )
    return shares


def memory(needed: int, what: str, remedy: str) -> None:
    """Refuse what this machine's memory cannot hold before anything is allocated."""
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return  # a system that does not say
    if needed > there:
        raise InputError(f"{what} takes about {needed / 2**30:,.1f} GiB; this machine has {there / 2**30:,.1f} GiB. {remedy}")
