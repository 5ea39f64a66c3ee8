"""Which symbols a vocabulary keeps of those that it has counted."""

from ... import _check
from ..._check import InputError
from ._abstract import UNKNOWN


def choose(counts: list[tuple[str, int]], level: str, most: int | None, min_count: int) -> list[str]:
    """The symbols to keep, commonest first, ties in code point order."""
    if len(counts) < 2:
        raise one_symbol(level, counts[0][0] if counts else "")
    kept = sorted((s for s in counts if s[1] >= min_count), key=lambda s: (-s[1], s[0]))
    kept = kept if most is None else kept[: _check.positive("`vocabulary_size`", most) - 1]
    if len(kept) < 1:
        raise InputError(
            f"no symbol is left of {len(counts):,} with `min_count={min_count}` and `vocabulary_size={most}`; expected at least one "
            f"beside {UNKNOWN}. "
            "Lower `min_count` or raise `vocabulary_size`."
        )
    return [symbol for symbol, _ in kept]


def one_symbol(level: str, symbol: str) -> InputError:
    got = f"only the symbol {symbol[:40]!r}" if symbol else "no symbol at all"
    return InputError(f"the training text has {got} at level {level}; expected at least two to tell apart. Give another text or level.")
