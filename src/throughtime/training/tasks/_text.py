"""A text, and a language model of it."""

import json
import math
from pathlib import Path
from typing import Any, final

import torch

from ..._check import InputError
from ...data import (
    AbstractStream,
    AbstractVocabulary,
    Corpus,
    Documents,
    Section,
    SequenceStream,
    TextSource,
    TokenStream,
    read_vocabulary,
)
from ...models import AbstractModel, LanguageModel
from .._build import build_cell, check_memory, initial, initialisers
from .._evaluate import Score, evaluate
from .._trained import Trained, start_of
from .._unit import BITS
from ..options import LoopOptions, NetworkOptions, TextOptions, TextRun
from ._base import AbstractTask, Told, ToldWhat

_LINE = 80  # symbols that are written now and then
_PARTS = 4  # of a stream: a document that is longer is cut, so that streams side by side end at about the same time


@final
class TextTask(AbstractTask):
    """A text as ids, and its vocabulary."""

    unit = BITS
    sizes_from = "the vocabulary"
    sampled = "sample it with: throughtime sample"

    def __init__(self, folder: Path, vocabulary: AbstractVocabulary, corpus: Corpus | None = None) -> None:
        self._folder, self.vocabulary, self._corpus = folder, vocabulary, corpus

    @classmethod
    def check(cls, run: TextRun) -> None:
        text_source(run.text)
        check_memory(lambda: build_model(run.network, 2), run.loop, "`vocab_size`, ")  # refuses what does not go before the text is read

    @classmethod
    def prepare(cls, folder: Path, run: TextRun, *, parent: AbstractTask | None, told: ToldWhat) -> "TextTask":
        text = run.text
        corpus = Corpus.build(
            text_source(text),
            folder,
            level=text.level,
            vocabulary_size=text.vocab_size,
            min_count=text.min_count,
            vocabulary=parent.vocabulary if isinstance(parent, TextTask) else None,
            progress=told,
        )
        task = cls(folder, corpus.vocabulary, corpus)
        task.stream(run.loop)
        check_memory(lambda: task.build_model(run.network), run.loop, "`vocab_size`, ")
        return task

    @classmethod
    def open(cls, folder: Path, run: TextRun) -> "TextTask":
        return cls(folder, read_vocabulary(folder / "vocabulary.json"))

    def corpus(self) -> Corpus:
        """The text's ids."""
        if self._corpus is None:
            self._corpus = Corpus.open(self._folder)
        return self._corpus

    def about(self) -> str:
        sizes = "  ".join(f"{name} {len(s.tokens):,}" for name, s in self.corpus().sections.items() if len(s.tokens))
        documents = sum(len(s.borders) - 1 for s in self.corpus().sections.values() if s.borders is not None)
        apart = f" in {documents:,} documents" if documents else ""
        return f"{self.vocabulary.size:,} symbols at level {self.vocabulary.level}{apart}; {sizes}"

    def build_model(self, network: NetworkOptions) -> LanguageModel:
        return build_model(network, self.vocabulary.size)

    def stream(self, loop: LoopOptions) -> AbstractStream:
        return training_stream(self.corpus(), loop)

    def held_out(self) -> tuple[str, ...]:
        return tuple(name for name, s in self.corpus().sections.items() if name != "train" and len(s.tokens) >= 2)

    def evaluate(self, model: AbstractModel, name: str, *, window: int, most: int | None, progress: Told) -> Score:
        assert isinstance(model, LanguageModel), "build_model makes it"
        return evaluate(model, self.corpus().sections[name], window=window, most=most, progress=progress)

    def windows(self, part: str | None, *, streams: int, window: int) -> tuple[str, AbstractStream]:
        sections = self.corpus().sections
        if part is None:
            part = "valid" if len(sections["valid"].tokens) >= 2 else max(sections, key=lambda name: len(sections[name].tokens))
        return part, text_windows(sections[part], part, streams=streams, window=window)

    def facts(self) -> dict[str, str]:
        return {"level": self.vocabulary.level, "vocabulary": json.dumps(self.vocabulary.to_json())}

    @property
    def guess(self) -> float:
        return math.log(self.vocabulary.size)

    def written(self, model: AbstractModel, generator: torch.Generator) -> str:
        assert isinstance(model, LanguageModel), "build_model makes it"
        never = () if self.vocabulary.unknown is None else (self.vocabulary.unknown,)
        start = start_of(self.vocabulary, self.corpus().sections["train"], generator)
        ids = model.sample(start, _LINE, temperature=0.8, generator=generator, never=never)
        return self.vocabulary.decode(ids)

    def face(self, model: AbstractModel, options: TextRun, metrics: list[dict[str, Any]], folder: Path) -> Trained:
        assert isinstance(model, LanguageModel), "build_model makes it"
        return Trained(model, self.vocabulary, options, metrics, folder)


def text_windows(section: Section, name: str, *, streams: int, window: int) -> AbstractStream:
    """At most so many streams of a text, with two windows or more in each where the text has them."""
    if (size := len(section.tokens)) < 2:
        raise InputError(f"{name} has {size} symbols; expected at least 2, to predict one. Give a longer text as `data`.")
    B = max(1, min(streams, (size - 1) // (2 * window)))
    if section.borders is None:
        return TokenStream(section.tokens, batch_size=B, window=window)
    return SequenceStream(Documents(section.tokens, section.borders, -(-size // B)), batch_size=B, window=window)


def text_source(text: TextOptions) -> TextSource:
    """The files and how they are cut."""
    return TextSource(text.files, text.valid, text.test, text.split, text.encoding, text.field, text.documents)


def build_model(network: NetworkOptions, vocabulary_size: int) -> LanguageModel:
    """The language model, its weights drawn from torch's global generator."""
    network.check()
    try:
        return LanguageModel(
            vocabulary_size,
            cell=build_cell(network),
            hidden_size=network.hidden,
            num_layers=network.layers,
            embedding_size=network.embedding,
            dropout=network.dropout,
            input_dropout=network.input_dropout,
            tied=network.tied,
            initial=initial(network),
            initialisers=initialisers(network),
        )
    except NotImplementedError as error:
        raise InputError(str(error)) from None


def training_stream(corpus: Corpus, loop: LoopOptions) -> AbstractStream:
    """The training text as streams; documents in an order that each pass has of its own.

    Raises:
        InputError: a stream of it is shorter than one window.
    """
    section = corpus.sections["train"]
    tokens = section.tokens
    if (steps := (len(tokens) - 1) // loop.batch_size) < loop.bptt:
        raise InputError(
            f"the training text has {len(tokens):,} symbols, {max(0, steps):,} for each of {loop.batch_size} streams; expected at "
            f"least one window of {loop.bptt}, so {loop.batch_size * loop.bptt + 1:,}. Lower `batch_size` or `bptt`, or give a "
            "longer text."
        )
    if section.borders is None:
        return TokenStream(tokens, batch_size=loop.batch_size, window=loop.bptt)
    documents = Documents(tokens, section.borders, max(loop.bptt, steps // _PARTS))
    if not len(documents.lengths):
        raise InputError(
            "every document of the training text is a single symbol; expected longer ones. Join them with --no-documents, or give others."
        )
    return SequenceStream(documents, batch_size=loop.batch_size, window=loop.bptt, seed=loop.seed)
