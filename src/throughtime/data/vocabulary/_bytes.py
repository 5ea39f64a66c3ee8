"""Level byte."""

import codecs
from collections.abc import Iterable, Iterator
from typing import final

import numpy as np

from ._abstract import ANY_BYTES, AbstractVocabulary
from ._symbols import one_symbol


@final
class Bytes(AbstractVocabulary):
    """Every byte of the UTF-8 text: 256 symbols; no symbol is unknown.

    >>> Bytes().encode("é").tolist()
    [195, 169]
    """

    level = "byte"
    size = 256  # type: ignore[assignment]

    @classmethod
    def count(cls, chunks: Iterable[str]) -> "Bytes":
        """The vocabulary; the text is read only until it has shown two different symbols.

        Raises:
            InputError: a text of fewer than two different symbols.
        """
        seen: set[int] = set()
        for chunk in chunks:
            seen.update(chunk.encode(errors=ANY_BYTES))
            if len(seen) > 1:
                return cls()
        raise one_symbol(cls.level, bytes(seen).decode("latin-1"))

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(errors=ANY_BYTES), np.uint8)

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        return spelled(bytes([i]) for i in ids)

    def to_json(self) -> object:
        return {"level": self.level}


def spelled(pieces: Iterable[bytes]) -> Iterator[str]:
    """The text of UTF-8 bytes as they come: a character may be spread over several pieces, and a model may write what is none."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)
