"""Vocabularies: the symbols of a text, counted from a stream of chunks and saved as JSON.

V vocabulary. ``<unk>`` is symbol 0 of the levels where a symbol can be unknown.
"""

import abc
import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import ClassVar, final

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .. import _check
from .._check import InputError

UNKNOWN = "<unk>"
ANY_BYTES = "surrogateescape"  # how Python keeps bytes that are not UTF-8 in a text
END_OF_LINE = "<eos>"
_CODE_POINTS = 0x110000
_MOST_SUBWORDS = 1_000_000
_LONGEST_WORD = 64  # characters without a space that byte-pair encoding joins, as in a text without line breaks
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which is no text


class AbstractVocabulary(abc.ABC):
    """A level of text: how text is divided into symbols, and how symbols become text.

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
        if _SURROGATE.search(prompt):
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
        raise _one_symbol(cls.level, bytes(seen).decode("latin-1"))

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(errors=ANY_BYTES), np.uint8)

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        return _spelled(bytes([i]) for i in ids)

    def to_json(self) -> object:
        return {"level": self.level}


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
        self._id = np.zeros(_CODE_POINTS, np.uint32)
        self._id[points] = np.arange(1, len(points) + 1)

    @classmethod
    def count(cls, chunks: Iterable[str], *, most: int | None = None, min_count: int = 1) -> "Chars":
        """The characters that occur at least ``min_count`` times, the ``most`` − 1 commonest of them."""
        counts = np.zeros(_CODE_POINTS, np.int64)
        for chunk in chunks:
            points = np.frombuffer(chunk.encode("utf-32-le"), np.uint32)
            counts += np.bincount(points, minlength=_CODE_POINTS)
        seen = [(chr(p), int(counts[p])) for p in np.flatnonzero(counts)]
        return cls("".join(sorted(_choose(seen, cls.level, most, min_count))))

    @property
    def size(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> np.ndarray:
        return self._id[np.frombuffer(text.encode("utf-32-le"), np.uint32)]

    def spelling_bits(self, text: str, ids: np.ndarray) -> float:
        """Each is one of the code points that are not in the vocabulary, all alike."""
        return float((ids == 0).sum()) * math.log2(_CODE_POINTS - len(self.characters))

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        return (UNKNOWN if i == 0 else self.characters[i - 1] for i in ids)

    def to_json(self) -> object:
        return {"level": self.level, "characters": self.characters}


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
        for block in _whole_words(chunks):
            counts.update(_words(block))
            rarest = _forget_rare(counts, rarest)
        counts.pop(UNKNOWN, None)
        return cls(_choose(list(counts.items()), cls.level, most, min_count))

    @property
    def size(self) -> int:
        return len(self.words)

    def blocks(self, chunks: Iterable[str]) -> Iterator[str]:
        return _whole_words(chunks)

    def encode(self, text: str) -> np.ndarray:
        return np.fromiter(map(self._id.get, _words(text), repeat(0)), np.uint32)

    def spelling_bits(self, text: str, ids: np.ndarray) -> float:
        """Each letter by letter: those of the vocabulary's words, an end and an escape are alike; after the escape any code point is."""
        alphabet = set().union(*self.words)
        one, other = math.log2(len(alphabet) + 2), math.log2(_CODE_POINTS)
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
        blocks = _first(_whole_words(chunks), 64 << 20)
        first = next(blocks, "")
        if len(set(first)) < 2:
            raise _one_symbol(cls.level, first[:1])
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
        return _whole_words(chunks)

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(text).ids, np.uint32)

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        return _spelled(self._bytes[i] for i in ids)

    def to_json(self) -> object:
        return {"level": self.level, "tokenizer": json.loads(self._tokenizer.to_str())}


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
        case {"level": "char", "characters": str(characters)} if len(set(characters)) == len(characters) and not _SURROGATE.search(
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


def _byte_of_letter() -> dict[str, int]:
    """Which byte each letter of the byte-level alphabet stands for: printable ones for themselves, the others from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (b for b in range(256) if b not in printable)
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


def _choose(counts: list[tuple[str, int]], level: str, most: int | None, min_count: int) -> list[str]:
    """The symbols to keep, commonest first, ties in code point order."""
    if len(counts) < 2:
        raise _one_symbol(level, counts[0][0] if counts else "")
    kept = sorted((s for s in counts if s[1] >= min_count), key=lambda s: (-s[1], s[0]))
    kept = kept if most is None else kept[: _check.positive("`vocabulary_size`", most) - 1]
    if len(kept) < 1:
        raise InputError(
            f"no symbol is left of {len(counts):,} with `min_count={min_count}` and `vocabulary_size={most}`; expected at least one "
            f"beside {UNKNOWN}. "
            "Lower `min_count` or raise `vocabulary_size`."
        )
    return [symbol for symbol, _ in kept]


def _one_symbol(level: str, symbol: str) -> InputError:
    got = f"only the symbol {symbol[:40]!r}" if symbol else "no symbol at all"
    return InputError(f"the training text has {got} at level {level}; expected at least two to tell apart. Give another text or level.")


def _spelled(pieces: Iterable[bytes]) -> Iterator[str]:
    """The text of UTF-8 bytes as they come: a character may be spread over several pieces, and a model may write what is none."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def _words(text: str) -> list[str]:
    return text.replace("\n", f" {END_OF_LINE} ").split()


def _forget_rare(counts: Counter[str], rarest: int, most: int = 1_000_000) -> int:
    """Drop the words seen at most ``rarest`` times where there are more than ``most``; the next bound."""
    if len(counts) <= most:
        return rarest
    for word in [word for word, count in counts.items() if count <= rarest]:
        del counts[word]
    return rarest + 1


def _whole_words(chunks: Iterable[str], most: int = 1 << 20) -> Iterator[str]:
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


def _first(blocks: Iterable[str], characters: int) -> Iterator[str]:
    for block in blocks:
        yield block
        characters -= len(block)
        if characters <= 0:
            return
