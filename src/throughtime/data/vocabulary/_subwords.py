"""Level bpe: byte-pair encoding."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import final

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from ..._check import InputError
from ._abstract import AbstractVocabulary
from ._blocks import whole_words
from ._bytes import spelled
from ._symbols import one_symbol

_MOST_SUBWORDS = 1_000_000
_LONGEST_WORD = 64  # characters without a space that byte-pair encoding joins, as in a text without line breaks


@final
class Subwords(AbstractVocabulary):
    """Byte-pair encoding over bytes (Sennrich et al. 2016; Hugging Face ``tokenizers``); no symbol is unknown.

    It is learned from at most the first 64 Mi characters of the training text, so that memory is bounded.

    >>> subwords = Subwords.count(["the cat sat on the mat. " * 20], most=270)
    >>> subwords.size <= 270, subwords.decode(subwords.encode("the café"))
    (True, 'the café')
    """

    level = "bpe"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        byte = _byte_of_letter()
        self._bytes = [bytes(byte[letter] for letter in tokenizer.id_to_token(i) or "") for i in range(tokenizer.get_vocab_size())]

    @classmethod
    def count(cls, chunks: Iterable[str], *, most: int | None = None, min_count: int = 2) -> "Subwords":
        """``most`` symbols (8,192 by default): the 256 bytes and the commonest pairs that occur at least ``min_count`` times."""
        most = 8192 if most is None else most
        if not 257 <= most <= _MOST_SUBWORDS:
            raise InputError(
                f"`vocabulary_size` is {most} at level bpe; expected 257 (256 bytes and one pair) to {_MOST_SUBWORDS:,}. "
                "Use `level='byte'` for 256."
            )
        blocks = _first(whole_words(chunks), 64 << 20)
        first = next(blocks, "")
        if len(set(first)) < 2:
            raise one_symbol(cls.level, first[:1])
        tokenizer = Tokenizer(models.BPE())
        cut = pre_tokenizers.Split(Regex(rf"\S{{{_LONGEST_WORD}}}"), "isolated")  # merging takes the square of a word's length
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])  # type: ignore[assignment]
        tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        trainer = trainers.BpeTrainer(
            vocab_size=most,
            min_frequency=min_count,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(chain([first], blocks), trainer)
        return cls(tokenizer)

    @property
    def size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def blocks(self, chunks: Iterable[str]) -> Iterator[str]:
        return whole_words(chunks)

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(text).ids, np.uint32)

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        return spelled(self._bytes[i] for i in ids)

    def to_json(self) -> object:
        return {"level": self.level, "tokenizer": json.loads(self._tokenizer.to_str())}


def _byte_of_letter() -> dict[str, int]:
    """Which byte each letter of the byte-level alphabet stands for: printable ones for themselves, the others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (b for b in range(256) if b not in printable)
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


def _first(blocks: Iterable[str], characters: int) -> Iterator[str]:
    for block in blocks:
        yield block
        characters -= len(block)
        if characters <= 0:
            return
