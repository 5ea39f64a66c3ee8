"""A text corpus: files are read in chunks, tokenised once, and stored as memory-mapped ids. Memory does not grow with the text."""

import codecs
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np

from .. import _check
from .._check import InputError
from ._stream import Tokens
from ._vocabulary import AbstractVocabulary, Bytes, Chars, Subwords, Words, vocabulary_from_json

Level = Literal["char", "byte", "word", "bpe"]
Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all

_CHUNK = 1 << 20  # bytes read at a time
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


@final
@dataclass(frozen=True)
class TextSource:
    """The files of a corpus and how they are divided into sections.

    Attributes:
        files: the training text, joined end to end.
        valid: a file for validation; None: a share of ``files``.
        test: a file for test; None: a share of ``files``, unless ``valid`` is given.
        split: the shares of ``files`` for training, validation and test, in this order. With ``test``, validation gets everything after
            training. With ``valid``, all of ``files`` is training text.
        encoding: the encoding of every file.

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

    def __post_init__(self) -> None:
        _check.split(self.split)
        _refuse_no_encoding(self.encoding)

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
        progress: Progress = lambda what, done, total: None,
    ) -> "Corpus":
        """Read the text three times in a stream (check, count, encode) and write ``vocabulary.json`` and ``tokens/``.

        A level of words keeps at most the 30,000 commonest unless ``vocabulary_size`` says otherwise.

        The vocabulary is counted from the training section alone. ``tokens/corpus.json`` is written last: without it there is no corpus.

        Raises:
            InputError: a file that is missing, empty or not in its encoding; a text of fewer than two symbols.
        """
        tokens = folder / "tokens"
        tokens.mkdir(parents=True, exist_ok=True)

        def chunks(what: str) -> Iterator[str]:
            return _read(source.files, source.encoding, lambda done, total: progress(what, done, total))

        for path in filter(None, (source.valid, source.test)):
            _check_text([path], source.encoding, lambda done, total, path=path: progress(f"checking {path.name}", done, total))
        characters = _check_text(source.files, source.encoding, lambda done, total: progress("checking", done, total))
        bounds = source.bounds(characters)
        snap = level in ("word", "bpe")
        training = (text for section, text in _split(chunks("counting"), bounds, snap) if section == 0)
        vocabulary = _count(level, training, vocabulary_size, min_count)
        with ExitStack() as files:
            writers = [files.enter_context(_Writer(tokens / f"{name}.bin", vocabulary)) for name in ("train", "valid", "test")]
            _encode(vocabulary, _split(chunks("encoding"), bounds, snap), writers)
            for writer, path in zip(writers[1:], (source.valid, source.test), strict=True):
                if path is not None:
                    texts = _read([path], source.encoding, lambda done, total, path=path: progress(f"encoding {path.name}", done, total))
                    _encode(vocabulary, ((0, text) for text in texts), [writer])
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


def encode_file(path: Path, vocabulary: AbstractVocabulary, into: Path, encoding: str = "utf-8") -> Section:
    """A file's ids under a vocabulary that stands already, kept at ``into``."""
    _refuse_no_encoding(encoding)
    with _Writer(into, vocabulary) as writer:
        _encode(vocabulary, ((0, text) for text in _read([path], encoding, lambda done, total: None)), [writer])
        return _open_section(into, vocabulary, writer.close())


def read_vocabulary(path: Path) -> AbstractVocabulary:
    """The vocabulary in a ``vocabulary.json``."""
    return vocabulary_from_json(_check.json_file(path))


class _Writer:
    """One section on its way to a file."""

    def __init__(self, path: Path, vocabulary: AbstractVocabulary) -> None:
        self.path, self._file = path, path.open("wb")
        self._dtype, self._unknown_id = vocabulary.dtype, vocabulary.unknown
        self.tokens = self.characters = self.unknown = 0

    def write(self, text: str, ids: np.ndarray) -> None:
        self._file.write(ids.astype(self._dtype).tobytes())
        self.tokens, self.characters = self.tokens + len(ids), self.characters + len(text)
        if self._unknown_id is not None:
            self.unknown += int((ids == self._unknown_id).sum())

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def close(self) -> dict[str, int]:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"tokens": self.tokens, "characters": self.characters, "unknown": self.unknown}


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


def _encode(vocabulary: AbstractVocabulary, texts: Iterator[tuple[int, str]], writers: Sequence[_Writer]) -> None:
    """Write each section's ids, cut in blocks where the vocabulary lets cut."""
    pending = next(texts, None)
    while pending is not None:
        section = pending[0]

        def of_this_section(section: int = section) -> Iterator[str]:
            nonlocal pending
            while pending is not None and pending[0] == section:
                yield pending[1]
                pending = next(texts, None)

        for block in vocabulary.blocks(of_this_section()):
            writers[section].write(block, vocabulary.encode(block))


def _open_section(path: Path, vocabulary: AbstractVocabulary, entry: object) -> Section:
    match entry:
        case {"tokens": int(tokens), "characters": int(characters), "unknown": int(unknown)}:
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
            return Section(Tokens(path, vocabulary.dtype), characters, unknown)
    raise InputError(
        f"the entry for {path} in corpus.json is {entry!r:.80}; expected the numbers of its tokens, characters and unknowns. "
        "Train again with `overwrite`."
    )


def _refuse_no_encoding(encoding: str) -> None:
    try:
        "a".encode(encoding)
    except (LookupError, ValueError):
        raise InputError(
            f"`encoding` is {encoding!r}, which is no text encoding of Python; expected one such as utf-8 or latin-1."
        ) from None


def _check_text(paths: Sequence[Path], encoding: str, progress: Callable[[int, int], None]) -> int:
    """How many characters the files have, after a look at each byte of them."""
    for path in paths:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is a pipe or device, which can be read once; expected a file. Save the text to a file first.")
    characters = 0
    for text in _read(paths, encoding, progress):
        _refuse_surrogates(text, paths, encoding)
        characters += len(text)
    return characters


def _refuse_surrogates(text: str, paths: Sequence[Path], encoding: str) -> None:
    """Encodings such as utf-7 can spell half a character, which is no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{' '.join(map(str, paths))} has half a character, {text[error.start]!r}, read as {encoding}; expected text. "
            "Name the file's own as `encoding`."
        ) from None


def _read(paths: Sequence[Path], encoding: str, progress: Callable[[int, int], None]) -> Iterator[str]:
    """The text of files end to end, a chunk at a time; a byte order mark at a file's start is dropped."""
    total = sum(_size(path) for path in paths)
    done = 0
    for path in paths:
        decoder = codecs.getincrementaldecoder("utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding)()
        offset = 0
        try:
            with path.open("rb") as file:
                while raw := file.read(_CHUNK):
                    yield _decode(decoder, raw, path, offset, encoding, final=False)
                    offset += len(raw)
                    progress(done + offset, total)
                if tail := _decode(decoder, b"", path, offset, encoding, final=True):
                    yield tail
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); expected a text file. Check the path and its permissions."
            ) from None
        done += offset


def _decode(decoder: codecs.IncrementalDecoder, raw: bytes, path: Path, offset: int, encoding: str, *, final: bool) -> str:
    pending = len(decoder.getstate()[0])
    try:
        return decoder.decode(raw, final)
    except UnicodeDecodeError as error:
        at = offset - pending + error.start
        raise InputError(
            f"{path} is not {encoding}: byte {at:,} is 0x{error.object[error.start]:02x} ({error.reason}); expected {encoding} throughout. "
            "Name the file's own as `encoding`, such as `encoding='latin-1'`."
        ) from None
    except UnicodeError as error:
        raise InputError(f"{path} is not {encoding} ({error}). Name the file's own as `encoding`.") from None


def _size(path: Path) -> int:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; expected a text file. Name the files in it.")
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a text file. Check the path.") from None
    if size == 0 and path.is_file():
        raise InputError(f"{path} is empty; expected text. Give another file.")
    return size


def _split(chunks: Iterable[str], bounds: Sequence[int], at_line_ends: bool) -> Iterator[tuple[int, str]]:
    """(section, text) pairs, in order; a section ends at its bound, or at the first line end after it."""
    section, position, begin = 0, 0, 0  # of the section, in characters
    for chunk in chunks:
        while section < len(bounds) and position + len(chunk) >= bounds[section]:
            cut = max(bounds[section], begin) - position
            if at_line_ends and bounds[section] > begin:
                limit = cut + _SNAP
                cut = chunk.find("\n", max(0, cut - 1), limit) + 1 or limit
                if cut > len(chunk):
                    break
            yield section, chunk[:cut]
            section, position, chunk = section + 1, position + cut, chunk[cut:]
            begin = position
        if chunk:
            yield section, chunk
            position += len(chunk)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
