"""A text corpus: files are read in chunks, tokenised once, and stored as memory-mapped ids. Memory does not grow with the text."""

import json
import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, final

import numpy as np

from .. import _check
from .._check import InputError
from ._documents import borders_file, open_borders
from ._sources import readable
from ._stream import Tokens
from ._texts import Chunks, Reading, is_jsonl, refuse_no_encoding
from .vocabulary import ANY_BYTES, AbstractVocabulary, Bytes, Chars, Subwords, Words, vocabulary_from_json

Level = Literal["char", "byte", "word", "bpe"]
Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all

_WORDS = 30_000  # the default number of symbols at level word
_SNAP = 10_000  # characters by which a cut between sections may move to the next line end


@final
@dataclass(frozen=True)
class Section:
    """One part of a corpus, for training, validation or test: its ids, and the size of its text.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "book.txt")
    >>> _ = path.write_text("a cat\\n" * 30)
    >>> section = encode_file(path, Bytes(), path.with_suffix(".ids"))
    >>> section.characters, len(section.tokens), section.unknown
    (180, 180, 0)
    >>> folder.cleanup()
    """

    tokens: Tokens
    characters: int
    unknown: int  # how many ids are <unk>
    unknown_bits: float | None = None  # that spell the text of these ids; None: not counted
    borders: np.ndarray | None = None  # (D + 1,) where each of D documents begins, and the end; None: the text is one


@final
@dataclass(frozen=True)
class TextSource:
    """The files of a corpus and how they are divided into sections.

    Attributes:
        files: the training text.
        valid: a file for validation; None: a share of ``files``.
        test: a file for test; None: a share of ``files``, unless ``valid`` is given.
        split: the shares of ``files`` for training, validation and test, in this order. With ``test``, validation gets everything after
            training. With ``valid``, all of ``files`` is training text.
        encoding: the encoding of every file.
        field: the field with the text in the lines of JSONL; None: "text", and the files are JSONL whose names end in .jsonl or .ndjson.
        documents: every file, and every line of JSONL, is a document of its own: nothing is predicted across its border. False: all are
            joined end to end. None: documents where a folder or JSONL is among the files.

    Raises:
        InputError: shares that do not add up to 1, or an unknown encoding.

    >>> TextSource((Path("book.txt"),), split=(0.8, 0.1, 0.1)).bounds(1000)  # validation and test begin here
    [800, 900]
    """

    files: tuple[Path, ...]
    valid: Path | None = None
    test: Path | None = None
    split: tuple[float, float, float] = (0.9, 0.05, 0.05)
    encoding: str = "utf-8"
    field: str | None = None
    documents: bool | None = None

    def __post_init__(self) -> None:
        _check.split(self.split)
        refuse_no_encoding(self.encoding)

    def reading(self, level: Level) -> Reading:
        """How its files are read at a level."""
        paths = [path for path in (*self.files, self.valid, self.test) if path is not None]
        apart = any(self.field is not None or is_jsonl(path) or path.is_dir() for path in paths)
        apart = apart if self.documents is None else self.documents
        return Reading(self.encoding, ANY_BYTES if level == "byte" else "strict", self.field, apart)

    def bounds(self, characters: int) -> list[int]:
        """Where validation and test begin, in characters of the joined files."""
        if self.valid is not None:
            return [characters, characters]
        first, second, _ = self.split
        begin_valid = round(first * characters)
        return [begin_valid, characters if self.test is not None else round((first + second) * characters)]


@final
@dataclass(frozen=True)
class Corpus:
    """A vocabulary and three sections of ids: ``train``, ``valid``, ``test``.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "book.txt")
    >>> _ = path.write_text("the quick brown fox\\n" * 100)
    >>> corpus = Corpus.build(TextSource((path,)), Path(folder.name))
    >>> corpus.vocabulary.size, {name: len(section.tokens) for name, section in corpus.sections.items()}
    (18, {'train': 1800, 'valid': 100, 'test': 100})
    >>> folder.cleanup()
    """

    vocabulary: AbstractVocabulary
    sections: dict[str, Section]

    @classmethod
    def build(
        cls,
        source: TextSource,
        folder: Path,
        *,
        level: Level = "char",
        vocabulary_size: int | None = None,
        min_count: int | None = None,
        vocabulary: AbstractVocabulary | None = None,
        progress: Progress = lambda what, done, total: None,
    ) -> "Corpus":
        """Read the text three times in a stream (check, count, encode) and write ``vocabulary.json`` and ``tokens/``.

        A level of words keeps at most the 30,000 commonest unless ``vocabulary_size`` says otherwise.

        The vocabulary is counted from the training section alone, unless it is given.
        ``tokens/corpus.json`` is written last: without it there is no corpus.

        Raises:
            InputError: a file that is missing, empty or not in its encoding; a text of fewer than two symbols.
        """
        tokens = folder / "tokens"
        tokens.mkdir(parents=True, exist_ok=True)
        reading = source.reading(level)
        with ExitStack() as files:

            def found(paths: Sequence[Path]) -> list[Path]:
                return files.enter_context(readable(paths, tokens, lambda done, total: progress("reading", done, total)))

            def chunks(what: str, paths: Sequence[Path]) -> Chunks:
                return reading.chunks(paths, lambda done, total: progress(what, done, total))

            text, held_out = found(source.files), [None if path is None else found([path]) for path in (source.valid, source.test)]
            for paths in filter(None, held_out):
                _check_text(chunks("checking", paths), paths, reading)
            ends = _check_text(chunks("checking", text), text, reading)
            bounds = source.bounds(ends[-1])
            if reading.apart:
                bounds = _at_borders(bounds, ends)
            snap = level in ("word", "bpe") and not reading.apart
            training = (piece for section, *piece in _split(chunks("counting", text), bounds, snap) if section == 0)
            training = _joined(training, "\n" if level in ("word", "bpe") else "")
            counted = _told_at_the_end(training, lambda: progress("learning subwords", 0, 1) if level == "bpe" else None)
            vocabulary = vocabulary or _count(level, counted, vocabulary_size, min_count)
            writers = [files.enter_context(_Writer(tokens / f"{name}.bin", vocabulary)) for name in ("train", "valid", "test")]
            _encode(vocabulary, _split(chunks("encoding", text), bounds, snap), writers)
            for writer, paths in zip(writers[1:], held_out, strict=True):
                if paths is not None:
                    _encode(vocabulary, ((0, *piece) for piece in chunks("encoding", paths)), [writer])
            sizes = {w.path.stem: w.close() for w in writers}
        _write_json(folder / "vocabulary.json", vocabulary.to_json())
        _write_json(tokens / "corpus.json", {"sections": sizes})
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """A corpus that ``build`` wrote.

        Raises:
            InputError: files that are missing, cut short or not ours.
        """
        vocabulary = read_vocabulary(folder / "vocabulary.json")
        tokens, sections = folder / "tokens", {}
        match _check.json_file(tokens / "corpus.json"):
            case {"sections": {"train": _, "valid": _, "test": _, **others} as entries} if not others:
                for name, entry in entries.items():
                    sections[name] = _open_section(tokens / f"{name}.bin", vocabulary, entry)
            case _:
                raise InputError(
                    f"{tokens / 'corpus.json'} names other sections than train, valid and test; expected what throughtime wrote. "
                    "Restore the file, or train again with `overwrite`."
                )
        return cls(vocabulary, sections)


def encode_file(
    path: Path,
    vocabulary: AbstractVocabulary,
    into: Path,
    encoding: str = "utf-8",
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    field: str | None = None,
    documents: bool | None = None,
) -> Section:
    """A text's ids under a vocabulary that stands already, kept at ``into``; pipes, gzip, folders and JSONL as for ``Corpus.build``."""
    reading = TextSource((path,), encoding=encoding, field=field, documents=documents).reading(cast(Level, vocabulary.level))
    with _Writer(into, vocabulary) as writer, readable([path], into.parent, progress) as paths:
        _encode(vocabulary, ((0, *piece) for piece in reading.chunks(paths, progress)), [writer])
        return _open_section(into, vocabulary, writer.close())


def read_vocabulary(path: Path) -> AbstractVocabulary:
    """The vocabulary in a ``vocabulary.json``."""
    return vocabulary_from_json(_check.json_file(path))


class _Writer:
    """One section on its way to a file."""

    def __init__(self, path: Path, vocabulary: AbstractVocabulary) -> None:
        self.path, self._file = path, path.open("wb")
        self._vocabulary = vocabulary
        self.tokens = self.characters = self.unknown = 0
        self.unknown_bits = 0.0
        self._borders = array("q")

    def begin(self) -> None:
        """A document begins; the one before it has an id at least."""
        if not self._borders or self._borders[-1] < self.tokens:
            self._borders.append(self.tokens)

    def write(self, text: str, ids: np.ndarray) -> None:
        self._file.write(ids.astype(self._vocabulary.dtype).tobytes())
        self.tokens, self.characters = self.tokens + len(ids), self.characters + len(text)
        if unknown := int((ids == self._vocabulary.unknown).sum()):
            self.unknown += unknown
            self.unknown_bits += self._vocabulary.spelling_bits(text, ids)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def close(self) -> dict[str, float]:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        numbers: dict[str, float] = {
            "tokens": self.tokens,
            "characters": self.characters,
            "unknown": self.unknown,
            "unknown_bits": self.unknown_bits,
        }
        self.begin()  # the end is the last border
        if len(self._borders) < 3:
            return numbers
        np.save(borders_file(self.path), np.frombuffer(self._borders, np.int64), allow_pickle=False)
        return numbers | {"documents": len(self._borders) - 1}


def _count(level: Level, chunks: Iterable[str], size: int | None, min_count: int | None) -> AbstractVocabulary:
    if size is not None:
        _check.positive("`vocabulary_size`", size)
    if min_count is not None:
        _check.positive("`min_count`", min_count)
    match level:
        case "byte":
            if size is not None or min_count is not None:
                raise InputError(
                    "`vocabulary_size` and `min_count` do not apply at level byte, which always has 256 symbols. Leave them out."
                )
            return Bytes.count(chunks)
        case "char":
            return Chars.count(chunks, most=size, min_count=min_count or 1)
        case "word":
            return Words.count(chunks, most=size or _WORDS, min_count=min_count or 1)
        case "bpe":
            return Subwords.count(chunks, most=size, min_count=min_count or 2)


def _encode(vocabulary: AbstractVocabulary, texts: Iterator[tuple[int, bool, str]], writers: Sequence[_Writer]) -> None:
    """Write each document's ids into its section, cut in blocks where the vocabulary lets cut."""
    pending = next(texts, None)
    while pending is not None:
        section = pending[0]
        writers[section].begin()

        def of_this_document(section: int = section) -> Iterator[str]:
            nonlocal pending
            first = True
            while pending is not None and pending[0] == section and (first or not pending[1]):
                yield pending[2]
                first, pending = False, next(texts, None)

        for block in vocabulary.blocks(of_this_document()):
            writers[section].write(block, vocabulary.encode(block))


def _open_section(path: Path, vocabulary: AbstractVocabulary, entry: object) -> Section:
    match entry:
        case {"tokens": int(tokens), "characters": int(characters), "unknown": int(unknown), **others}:
            try:
                size = path.stat().st_size
            except OSError as error:
                raise InputError(
                    f"{path} cannot be read ({error.strerror}); expected the ids of {tokens:,} tokens. Train again with `overwrite`."
                ) from None
            if size != tokens * vocabulary.dtype.itemsize:
                raise InputError(
                    f"{path} has {size:,} bytes; expected {tokens * vocabulary.dtype.itemsize:,} for {tokens:,} tokens: it was cut "
                    "short or changed. Train again with `overwrite`."
                )
            bits, documents, ids = others.get("unknown_bits"), others.get("documents"), Tokens(path, vocabulary.dtype)
            borders = open_borders(ids, documents) if isinstance(documents, int) else None
            return Section(ids, characters, unknown, float(bits) if isinstance(bits, int | float) else None, borders)
    raise InputError(
        f"the entry for {path} in corpus.json is {entry!r:.80}; expected the numbers of its tokens, characters and unknowns. "
        "Train again with `overwrite`."
    )


def _check_text(texts: Chunks, paths: Sequence[Path], reading: Reading) -> array:
    """The characters up to the end of each document, after a look at each byte."""
    characters, ends = 0, array("q")
    for begins, text in texts:
        if reading.errors == "strict":
            _refuse_surrogates(text, paths, reading.encoding)
        if begins and characters:
            ends.append(characters)
        characters += len(text)
    ends.append(characters)
    return ends


def _at_borders(bounds: list[int], ends: array) -> list[int]:
    """Where sections begin among documents: each bound moves to the end of the document that it falls into.

    It stays where a section would have no document then: that document is cut.
    """
    whole = [ends[min(bisect_left(ends, bound), len(ends) - 1)] for bound in bounds]
    edges, moved = [0, *bounds, ends[-1]], [0, *whole, ends[-1]]
    empty = any(b > a and d <= c for a, b, c, d in zip(edges, edges[1:], moved, moved[1:], strict=False))
    return bounds if empty else whole


def _joined(pieces: Iterable[list[Any]], between: str) -> Iterator[str]:
    """The text of documents for a vocabulary to count, with what keeps the last word of one and the first of the next apart."""
    for i, (begins, text) in enumerate(pieces):
        if begins and i:
            yield between
        yield text


def _told_at_the_end(chunks: Iterable[str], tell: Callable[[], None]) -> Iterator[str]:
    """The same chunks; what follows the last of them may take a while."""
    yield from chunks
    tell()


def _refuse_surrogates(text: str, paths: Sequence[Path], encoding: str) -> None:
    """Encodings such as utf-7 can spell half a character, which is no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{' '.join(map(str, paths))} has half a character, {text[error.start]!r}, read as {encoding}; expected text. "
            "Name the file's own as `encoding`."
        ) from None


def _split(chunks: Chunks, bounds: Sequence[int], at_line_ends: bool) -> Iterator[tuple[int, bool, str]]:
    """(section, whether a document begins, text), in order; a section ends at its bound, or at the first line end after it."""
    section, position, begin = 0, 0, 0  # of the section, in characters
    for begins, chunk in chunks:
        while section < len(bounds) and position + len(chunk) >= bounds[section]:
            cut = max(bounds[section], begin) - position
            if at_line_ends and bounds[section] > begin:
                limit = cut + _SNAP
                cut = chunk.find("\n", max(0, cut - 1), limit) + 1 or limit
                if cut > len(chunk):
                    break
            if cut:
                yield section, begins, chunk[:cut]
            section, position, chunk, begins = section + 1, position + cut, chunk[cut:], True
            begin = position
        if chunk:
            yield section, begins, chunk
            position += len(chunk)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
