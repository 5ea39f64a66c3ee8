"""Arguments of Python's in a message become the shell's flags."""

import re

_FLAGS = {"vocabulary_size": "--vocab-size"}  # where the flag is not the argument with other strokes
_ARGUMENTS = {"encoding", "level", "min_count", "overwrite", "prompt", "seed", "vocabulary_size"}


def in_flags(message: str) -> str:
    """The library writes an argument in backquotes, alone or with a value: the same as a flag.

    >>> in_flags("`seed` is -1; give `min_count=2` or `encoding='latin-1'`, and leave `carry` away.")
    '--seed is -1; give --min-count 2 or --encoding latin-1, and leave `carry` away.'
    """
    return re.sub(r"`(\w+)(?:=(?:'([^'`]*)'|([^`]*)))?`", _flag, message)


def _flag(found: re.Match[str]) -> str:
    name, quoted, bare = found.groups()
    if name not in _ARGUMENTS:
        return found[0]
    flag, value = _FLAGS.get(name, f"--{name.replace('_', '-')}"), quoted or bare
    return f"{flag} {value}" if value else flag
