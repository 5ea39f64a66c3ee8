"""A text in blocks that cut no word."""

import re
from collections.abc import Iterable, Iterator


def whole_words(chunks: Iterable[str], most: int = 1 << 20) -> Iterator[str]:
    """The same text cut before white space that a word follows; at any place if there is none in ``most`` characters.

    Such a cut changes no ids: words lie between white space, and byte-pair encoding joins only the last space to the next word.
    """
    rest = ""
    for chunk in chunks:
        rest += chunk
        cut = _last_cut(rest)
        if cut == 0 and len(rest) > most:
            cut = len(rest)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _last_cut(text: str) -> int:
    """The last place before a space or line end that a word follows; 0 where there is none."""
    for tail in (4096, len(text)):  # it is near the end, or the text is an odd one
        begin = max(0, len(text) - tail)
        if places := [m.start() for m in re.finditer(r"[ \n](?=\S)", text[begin:])]:
            return begin + places[-1]
    return 0
