"""Level char."""

import math
from collections.abc import Iterable, Iterator
from typing import final

import numpy as np

from ._abstract import CODE_POINTS, UNKNOWN, AbstractVocabulary
from ._symbols import choose


@final
class Chars(AbstractVocabulary):
    """Every character (code point) seen in the training text, in code point order after ``<unk>``.

    >>> Chars("abc").encode("cabbage").tolist()
    [3, 1, 2, 2, 1, 0, 0]
    """

    level = "char"
    unknown = 0

    def __init__(self, characters: str) -> None:
        self.characters = characters
        points = np.frombuffer(characters.encode("utf-32-le"), np.uint32)
        self._id = np.zeros(CODE_POINTS, np.uint32)
        self._id[points] = np.arange(1, len(points) + 1)

    @classmethod
    def count(cls, chunks: Iterable[str], *, most: int | None = None, min_count: int = 1) -> "Chars":
        """The characters that occur at least ``min_count`` times, the ``most`` − 1 commonest of them."""
        counts = np.zeros(CODE_POINTS, np.int64)
        for chunk in chunks:
            points = np.frombuffer(chunk.encode("utf-32-le"), np.uint32)
            counts += np.bincount(points, minlength=CODE_POINTS)
        seen = [(chr(p), int(counts[p])) for p in np.flatnonzero(counts)]
        return cls("".join(sorted(choose(seen, cls.level, most, min_count))))

    @property
    def size(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> np.ndarray:
        return self._id[np.frombuffer(text.encode("utf-32-le"), np.uint32)]

    def spelling_bits(self, text: str, ids: np.ndarray) -> float:
        """Each is one of the code points that are not in the vocabulary, all alike."""
        return float((ids == 0).sum()) * math.log2(CODE_POINTS - len(self.characters))

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        return (UNKNOWN if i == 0 else self.characters[i - 1] for i in ids)

    def to_json(self) -> object:
        return {"level": self.level, "characters": self.characters}
