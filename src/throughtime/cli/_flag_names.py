"""Arguments of Python's in a message become what was typed: flags, or the options of a file."""

import re
from collections.abc import Mapping
from pathlib import Path

_SYNONYMS = {"vocabulary_size": "vocab_size"}  # where an argument of the library has another name at the shell


def in_flags(message: str, flags: Mapping[str, str]) -> str:
    """The library writes an argument in backquotes, alone or with a value: the same as a flag.

    Args:
        message: of an error.
        flags: the flag of each option.

    >>> names = {"seed": "--seed", "min_count": "--min-count", "encoding": "--encoding"}
    >>> in_flags("`seed` is -1; give `min_count=2` or `encoding='latin-1'`, and leave `carry` away.", names)
    '--seed is -1; give --min-count 2 or --encoding latin-1, and leave `carry` away.'
    """
    return _spelled(message, flags, "{} {}")


def as_in_file(message: str, options: Mapping[str, object], file: Path) -> str:
    """The same for options that a file has.

    >>> as_in_file("`hidden` is 0 and `cell='gru'` is given with `chrono`.", {"hidden": 0, "cell": "gru"}, Path("c.toml"))
    'hidden in c.toml is 0 and cell = gru in c.toml is given with `chrono`.'
    """
    names = {name: name for name in options}
    return _spelled(message, names, "{} = {} in " + str(file), "{} in " + str(file))


def _spelled(message: str, names: Mapping[str, str], with_value: str, alone: str = "{}") -> str:
    def one(found: re.Match[str]) -> str:
        name, quoted, bare = found.groups()
        shown, value = names.get(_SYNONYMS.get(name, name)), quoted or bare
        if shown is None:
            return found[0]
        return with_value.format(shown, value) if value else alone.format(shown)

    return re.sub(r"`(\w+)(?:=(?:'([^'`]*)'|([^`]*)))?`", one, message)
