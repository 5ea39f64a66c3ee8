"""The text of files, a chunk at a time: plain text, or the texts in the lines of a JSONL file; and where a document begins."""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from .._check import InputError
from ._sources import raw_chunks

Chunks = Iterator[tuple[bool, str]]  # whether a document begins with the chunk, and the chunk
_FIELD = "text"  # the usual one of a JSONL file


@final
@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        encoding: of every file.
        errors: what becomes of bytes that are not in it, as ``bytes.decode`` has it.
        field: the field of each line's object that has the text: every file is JSONL. None: "text", of files whose name says that they are.
        apart: every file, and every line of JSONL, is a document of its own. False: all of them are one.
    """

    encoding: str = "utf-8"
    errors: str = "strict"
    field: str | None = None
    apart: bool = False

    def chunks(self, paths: Sequence[Path], progress: Callable[[int, int], None]) -> Chunks:
        """The text of files, end to end; a byte order mark at a file's start is dropped. There is no chunk without a character.

        Raises:
            InputError: bytes that are not in the encoding, an empty file, a line that is no JSON or has no text.
        """
        total = sum(_size(path) for path in paths)
        done, begins = 0, True
        for path in paths:
            texts = self._decoded(path, lambda read, done=done: progress(done + read, total))
            for starts, text in self._records(path, texts) if self.field is not None or is_jsonl(path) else _one_document(texts):
                if text:
                    yield begins or (self.apart and starts), text
                    begins = False
            done += _size(path)

    def _decoded(self, path: Path, progress: Callable[[int], None]) -> Iterator[str]:
        name = "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding
        decoder, offset = codecs.getincrementaldecoder(name)(self.errors), 0
        for raw, read in raw_chunks(path):
            yield self._decode(decoder, raw, path, offset, final=False)
            offset += len(raw)
            progress(read)
        yield self._decode(decoder, b"", path, offset, final=True)

    def _decode(self, decoder: codecs.IncrementalDecoder, raw: bytes, path: Path, offset: int, *, final: bool) -> str:
        pending, encoding = len(decoder.getstate()[0]), self.encoding
        try:
            return decoder.decode(raw, final)
        except UnicodeDecodeError as error:
            at = offset - pending + error.start
            raise InputError(
                f"{path} is not {encoding}: byte {at:,} is 0x{error.object[error.start]:02x} ({error.reason}); expected {encoding} "
                "throughout. Name the file's own as `encoding`, such as `encoding='latin-1'`."
            ) from None
        except UnicodeError as error:
            raise InputError(f"{path} is not {encoding} ({error}). Name the file's own as `encoding`.") from None

    def _records(self, path: Path, texts: Iterable[str]) -> Chunks:
        """The text of each line of JSONL."""
        field = self.field or _FIELD
        for number, line in enumerate(_lines(texts), 1):
            if line.strip():
                yield True, self._text(line, field, f"{path}, line {number:,}")

    def _text(self, line: str, field: str, where: str) -> str:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is no JSON ({error!s:.60}); expected an object in every line. Mend that line.") from None
        if not isinstance(record, dict) or field not in record:
            got = f"has no field {field!r}" if isinstance(record, dict) else "is no object"
            there = [name for name, value in record.items() if isinstance(value, str)][:8] if isinstance(record, dict) else []
            expected = f"one of its texts: {', '.join(there)}" if there else 'such as {"text": "It was ..."}'
            raise InputError(f"{where} {got}; expected {expected}. Name the field with `field`, or mend that line.")
        text = record[field]
        try:
            if not isinstance(text, str):
                raise InputError(
                    f"{where}: {field!r} is {text!r:.40}; expected a text. Name another field with `field`, or mend that line."
                )
            text.encode(errors=self.errors)
        except UnicodeEncodeError as error:
            raise InputError(f"{where}: {field!r} has half a character, {text[error.start]!r}; expected a text. Mend that line.") from None
        return text


def is_jsonl(path: Path) -> bool:
    """Whether a file's name says that it is JSONL, packed perhaps."""
    return [suffix for suffix in map(str.lower, path.suffixes) if suffix != ".gz"][-1:] in ([".jsonl"], [".ndjson"])


def refuse_no_encoding(encoding: str) -> None:
    """Refuse what is no encoding of text."""
    try:
        "a".encode(encoding)
    except (LookupError, ValueError):
        raise InputError(
            f"`encoding` is {encoding!r}, which is no text encoding of Python; expected one such as utf-8 or latin-1."
        ) from None


def _one_document(texts: Iterable[str]) -> Chunks:
    first = True
    for text in texts:
        if text:
            yield first, text
            first = False


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Lines end with a line feed and nothing else; JSON may have other line ends in a text."""
    begun: list[str] = []
    for text in texts:
        *ended, rest = text.split("\n")
        for line in ended:
            yield "".join([*begun, line])
            begun = []
        begun.append(rest)
    yield "".join(begun)


def _size(path: Path) -> int:
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path} is empty; expected text. Give another file.")
    return size
