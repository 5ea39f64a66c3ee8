"""Lines for a person: broken between words where a terminal is narrow, and whole where something else reads them."""

import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console

PLAIN: Any = {"soft_wrap": True, "highlight": False, "markup": False}  # a line as it is: a command or a path, which somebody may copy


def put(console: Console, *parts: str) -> None:
    """A line of one part or several, which stay whole as long as a terminal has room for them."""
    width = console.width if console.is_terminal else 10_000
    console.print("\n".join(packed(parts, width)), **PLAIN)


def packed(parts: Sequence[str], width: int) -> list[str]:
    """As many parts a line as fit; a part that fits in no line is broken between its words.

    >>> packed(["step 100", "valid 2.103 nats", "perplexity 8.19"], 40)
    ['step 100  valid 2.103 nats', 'perplexity 8.19']
    >>> packed(["step 100", "valid 2.103 nats"], 12)
    ['step 100', 'valid 2.103', 'nats']
    """
    whole = (part.replace(" ", "\xa0") if len(part) <= width else part for part in parts)
    lines = textwrap.wrap("  ".join(whole), max(1, width), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def indented(text: str, width: int) -> list[str]:
    """Below a name; between words where it is too long for a line.

    >>> indented("bits/character 4.0177", 20)
    ['  bits/character', '    4.0177']
    """
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
