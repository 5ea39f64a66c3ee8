"""A text, and a run that learns from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, final

from ... import _numbers
from ..._errors import InputError
from ..flag import Flag
from ._loop import LoopOptions
from ._network import NetworkOptions
from ._optimiser import OptimiserOptions
from ._run import AnyRun
from ._words import SPLIT


@final
@dataclass(frozen=True)
class TextOptions:
    """The text and its symbols."""

    shapes: ClassVar[tuple[str, ...]] = ("level",)  # what the weights depend on
    form: ClassVar[str] = "symbols"

    files: Annotated[tuple[Path, ...], Flag("FILE...", positional=True)] = ()
    """The training text: files, plain or gzip, folders of them, or - for the standard input; or JSONL."""
    valid: Annotated[Path | None, Flag("FILE", "a share of the training text")] = None
    """A validation text of its own."""
    test: Annotated[Path | None, Flag("FILE", "a share of the training text, if --valid is not given", rare=True)] = None
    """A test text of its own."""
    split: Annotated[tuple[float, float, float], SPLIT] = (0.9, 0.05, 0.05)
    """Shares of the text, from its start, for training, validation and test."""
    encoding: Annotated[str, Flag(rare=True)] = "utf-8"
    """The files' encoding."""
    field: Annotated[str | None, Flag("NAME", "text, of files .jsonl and .ndjson")] = None
    """The field that has the text in every line of JSONL."""
    documents: Annotated[bool | None, Flag(unless="for folders and JSONL")] = None
    """Every file, and every line of JSONL, is a document: the state begins anew, and nothing is predicted across its border;
    --no-documents: all are joined end to end."""
    level: Literal["char", "byte", "word", "bpe"] = "char"
    """What a symbol is: a character, a byte, a word, or a subword (byte-pair encoding)."""
    vocab_size: Annotated[int | None, Flag("N", "word 30000, bpe 8192, char all of them")] = None
    """At most this many symbols, the commonest."""
    min_count: Annotated[int | None, Flag("N", "1, bpe 2", rare=True)] = None
    """Only symbols that occur this often in the training text."""

    def check(self) -> None:
        """Refuse what means nothing."""
        if not self.files:
            raise InputError("no text is named; expected one file or more. Give its path: throughtime train text book.txt")
        _numbers.split(self.split)
        if self.valid is not None and self.split != TextOptions.split:
            raise InputError(
                "`split` and `valid` are given together; expected one: with `valid`, all of the files is training text. Leave one out."
            )
        if self.vocab_size is not None:
            _numbers.positive("`vocab_size`", self.vocab_size)
        if self.min_count is not None:
            _numbers.positive("`min_count`", self.min_count)


@final
@dataclass(frozen=True)
class TextRun(AnyRun):
    """All that is chosen of a language model's training run: ``config.json``."""

    task = "text"
    writes = True

    text: TextOptions
    network: NetworkOptions
    optimiser: OptimiserOptions
    loop: LoopOptions
