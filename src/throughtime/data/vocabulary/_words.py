"""Level word."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import final

import numpy as np

from ._abstract import CODE_POINTS, UNKNOWN, AbstractVocabulary
from ._blocks import whole_words
from ._symbols import choose

END_OF_LINE = "<eos>"


@final
class Words(AbstractVocabulary):
    """Words between white space, and ``<eos>`` for every end of line, most frequent first after ``<unk>`` (as in the Penn Treebank).

    A text with millions of different words is counted in bounded memory: the rarest so far are dropped (as in word2vec).

    >>> words = Words(["<eos>", "the", "cat"])
    >>> words.decode(words.encode("the cat sat\\n"))
    'the cat <unk>\\n'
    """

    level = "word"
    unknown = 0

    def __init__(self, words: Sequence[str]) -> None:
        self.words = [UNKNOWN, *words]
        self._id = {word: i for i, word in enumerate(self.words)}

    @classmethod
    def count(cls, chunks: Iterable[str], *, most: int | None = None, min_count: int = 1) -> "Words":
        """The words that occur at least ``min_count`` times, the ``most`` − 1 commonest of them."""
        counts: Counter[str] = Counter()
        rarest = 1
        for block in whole_words(chunks):
            counts.update(_words(block))
            rarest = _forget_rare(counts, rarest)
        counts.pop(UNKNOWN, None)
        return cls(choose(list(counts.items()), cls.level, most, min_count))

    @property
    def size(self) -> int:
        return len(self.words)

    def blocks(self, chunks: Iterable[str]) -> Iterator[str]:
        return whole_words(chunks)

    def encode(self, text: str) -> np.ndarray:
        return np.fromiter(map(self._id.get, _words(text), repeat(0)), np.uint32)

    def spelling_bits(self, text: str, ids: np.ndarray) -> float:
        """Each letter by letter: those of the vocabulary's words, an end and an escape are alike; after the escape any code point is."""
        alphabet = set().union(*self.words)
        one, other = math.log2(len(alphabet) + 2), math.log2(CODE_POINTS)
        unknown = (word for word, i in zip(_words(text), ids, strict=True) if i == 0)
        return sum(one * (len(word) + 1) + other * sum(letter not in alphabet for letter in word) for word in unknown)

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        begins_line = True
        for i in ids:
            ends_line = self.words[i] == END_OF_LINE
            yield "\n" if ends_line else self.words[i] if begins_line else " " + self.words[i]
            begins_line = ends_line

    def to_json(self) -> object:
        return {"level": self.level, "words": self.words[1:]}

    def _symbols(self, text: str) -> Sequence[str]:
        return _words(text)


def _words(text: str) -> list[str]:
    return text.replace("\n", f" {END_OF_LINE} ").split()


def _forget_rare(counts: Counter[str], rarest: int, most: int = 1_000_000) -> int:
    """Drop the words seen at most ``rarest`` times where there are more than ``most``; the next bound."""
    if len(counts) <= most:
        return rarest
    for word in [word for word, count in counts.items() if count <= rarest]:
        del counts[word]
    return rarest + 1
