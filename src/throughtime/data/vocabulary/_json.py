"""A vocabulary read from JSON, and checked."""

import json

from tokenizers import Tokenizer

from ..._check import InputError
from ._abstract import SURROGATE, UNKNOWN, AbstractVocabulary
from ._bytes import Bytes
from ._chars import Chars
from ._subwords import Subwords
from ._words import Words


def vocabulary_from_json(value: object) -> AbstractVocabulary:
    """The vocabulary that ``to_json`` described. The value is checked, and no code in it is run.

    Raises:
        InputError: a value that is not from ``to_json``.

    >>> vocabulary_from_json({"level": "char", "characters": "abc"}).size
    4
    """
    match value:
        case {"level": "byte"}:
            return Bytes()
        case {"level": "char", "characters": str(characters)} if len(set(characters)) == len(characters) and not SURROGATE.search(
            characters
        ):
            return Chars(characters)
        case {"level": "word", "words": [*words]} if all(isinstance(w, str) for w in words) and len({UNKNOWN, *words}) > len(words):
            return Words([str(w) for w in words])
        case {"level": "bpe", "tokenizer": dict(tokenizer)}:
            return _subwords(tokenizer)
    raise InputError("the vocabulary is none that throughtime wrote; expected one of level byte, char, word or bpe. Train again.")


def _subwords(tokenizer: object) -> Subwords:
    try:
        return Subwords(Tokenizer.from_str(json.dumps(tokenizer)))
    except Exception as error:  # the library raises its own bare Exception on a malformed tokenizer
        raise InputError(
            f"the vocabulary's tokenizer cannot be read ({error}); expected one that throughtime wrote. Restore the file, or train again."
        ) from None
