"""What every vocabulary has: ids of a text, the text of ids, and JSON.

V vocabulary.
"""

import abc
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np

from ..._check import InputError

UNKNOWN = "<unk>"
ANY_BYTES = "surrogateescape"  # how Python keeps bytes that are not UTF-8 in a text
CODE_POINTS = 0x110000
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which is no text


class AbstractVocabulary(abc.ABC):
    """A level of text: how text is divided into symbols, and how symbols become text.

    >>> from throughtime.data import Chars
    >>> vocabulary = Chars.count(["the cat"])
    >>> ids = vocabulary.encode("that")
    >>> vocabulary.size, vocabulary.decode(ids)
    (7, 'that')
    """

    level: ClassVar[str]
    unknown: ClassVar[int | None] = None  # the id of whatever is not in the vocabulary, if anything can be

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """V."""

    @abc.abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """The ids of a text."""

    @abc.abstractmethod
    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of some ids, piece by piece as the ids arrive; joined, the pieces are the whole text."""

    @abc.abstractmethod
    def to_json(self) -> object:
        """The vocabulary as an object for JSON, which ``vocabulary_from_json`` reads."""

    def spelling_bits(self, text: str, ids: np.ndarray) -> float:
        """The bits that spell what <unk> stands for in a text and its ids, so that what is unknown is not free."""
        return 0.0

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned integer that holds every id."""
        return np.dtype("<u1" if self.size <= 1 << 8 else "<u2" if self.size <= 1 << 16 else "<u4")

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text of some ids."""
        return "".join(self.pieces(map(int, ids)))

    def blocks(self, chunks: Iterable[str]) -> Iterator[str]:
        """The same text in blocks whose ids, joined, are those of the whole text. By default the blocks are the chunks."""
        return iter(chunks)

    def encode_prompt(self, prompt: str) -> list[int]:
        """The ids of a prompt.

        Raises:
            InputError: an empty prompt, or one with a symbol that the vocabulary lacks.
        """
        if not prompt:
            raise InputError("the prompt is empty; expected at least one symbol to start from. Give one as `prompt`.")
        if SURROGATE.search(prompt):
            raise InputError("the prompt is not UTF-8; expected text. Check the terminal's encoding.")
        ids = self.encode(prompt).tolist()
        if self.unknown is not None and self.unknown in ids:
            first = self._symbols(prompt)[ids.index(self.unknown)]
            raise InputError(
                f"the prompt has {first!r}, which the model's vocabulary of {self.size:,} symbols does not know; expected symbols of the "
                f"training text such as {self._examples()}. Leave it out."
            )
        return ids

    def start(self) -> list[int]:
        """The ids to start from without a prompt: a line end, or if the vocabulary has none, its last symbol."""
        ids = self.encode("\n").tolist()
        return ids if self.unknown not in ids else [self.size - 1]

    def _symbols(self, text: str) -> Sequence[str]:
        """The text cut into symbols, known or not."""
        return text

    def _examples(self) -> str:
        return " ".join(repr(self.decode([i])) for i in range(1, min(6, self.size)))
