"""A run folder from Python: its model and vocabulary, ready to write and to be measured."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, final

import torch

from .. import _check
from .._check import InputError
from ..data import AbstractVocabulary, Batch, Corpus, Section, encode_file, first_symbol
from ..models import LanguageModel
from ._evaluate import Score, evaluate
from ._face import AbstractTrained
from .options import TextRun

_DRAWS = 100  # of a document, until one begins with a symbol that is known


@final
@dataclass(frozen=True, eq=False)
class Trained(AbstractTrained[LanguageModel]):
    """What ``throughtime train`` has made; ``load`` opens it.

    Attributes:
        model: the best weights, in evaluation mode.
        vocabulary: from text to ids and back.
        options: all that was chosen.
        metrics: the rows of metrics.jsonl, a dict a row.
        folder: where it is.
    """

    kind = "a language model of a text"
    instead = "generate(), sample(), predict(), stream() or evaluate()"

    model: LanguageModel
    vocabulary: AbstractVocabulary
    options: TextRun
    metrics: list[dict[str, Any]] = field(repr=False)
    folder: Path

    def generate(
        self,
        prompt: str | None = None,
        length: int = 500,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | None = None,
    ) -> str:
        """The prompt, and ``length`` symbols that the model writes after it; ``<unk>`` is never among them.

        Args:
            prompt: the text to go on from; None: a line end, or of a run on many documents the first symbol of one of them.
            length: how many symbols to write.
            temperature: below 1: likelier symbols; above: more surprising ones; 0: always the likeliest.
            top_k: only the likeliest this many may be drawn; None: any.
            seed: the same seed writes the same text; None: another one each time.

        Raises:
            InputError: a prompt that is empty or that the vocabulary does not know, numbers that mean nothing.
        """
        return "".join(self.write(prompt, length, temperature=temperature, top_k=top_k, seed=seed))

    def sample(
        self,
        prompt: str | None = None,
        length: int = 500,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | None = None,
    ) -> str:
        """``generate`` by the name that it has for every run."""
        return self.generate(prompt, length, temperature=temperature, top_k=top_k, seed=seed)

    @torch.no_grad()
    def predict(self, prompt: str | None = None, most: int = 10) -> dict[str, float]:
        """The likeliest symbols to come next, and the probability of each, the likeliest first.

        Args:
            prompt: the text so far; None: where ``generate`` begins.
            most: how many symbols.

        Raises:
            InputError: as ``generate``.
        """
        _check.positive("`most`", most)
        ids = self._ids(prompt, torch.Generator())
        hs, _ = self.model.recurrence(self.model.enter(Batch(torch.tensor(ids).unsqueeze(1).to(self.model.head.weight.device))), None)
        p = self.model.head.predict(hs[-1, 0])
        values, places = p.sort(descending=True, stable=True)
        shown = zip(places[:most].tolist(), values[:most].tolist(), strict=True)
        return {self.vocabulary.decode([i]) if i != self.vocabulary.unknown else "<unk>": value for i, value in shown}

    def write(
        self, prompt: str | None = None, length: int = 500, *, temperature: float = 1.0, top_k: int | None = None, seed: int | None = None
    ) -> Iterator[str]:
        """The text of ``generate``, piece by piece as it is drawn."""
        generator = torch.Generator()
        generator.seed() if seed is None else generator.manual_seed(_check.seed(seed))
        ids = self._ids(prompt, generator)
        never = () if self.vocabulary.unknown is None else (self.vocabulary.unknown,)
        drawn = self.model.sample(ids, length, temperature=temperature, top_k=top_k, generator=generator, never=never)
        return self.vocabulary.pieces(chain(ids, drawn))

    def evaluate(
        self,
        data: Path | str | None = None,
        *,
        encoding: str = "utf-8",
        streams: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Score:
        """How well the model predicts a text.

        Args:
            data: a file, a folder, a pipe, or JSONL with the run's field; None: the run's own test text, or its validation text where it
                has none.
            encoding: of ``data``.
            streams: read it in so many pieces side by side, each from the initial state; None: more for a longer text.
            progress: told how much is done, and of how much.

        Raises:
            InputError: a text that cannot be read, or of fewer than two symbols.
        """
        if data is None:
            return evaluate(self.model, self.held_out()[1], streams=streams, progress=progress)
        with tempfile.TemporaryDirectory() as aside:
            text = self.options.text
            section = encode_file(
                Path(data), self.vocabulary, Path(aside) / "data.bin", encoding, field=text.field, documents=text.documents
            )
            return evaluate(self.model, section, streams=streams, progress=progress)

    def _ids(self, prompt: str | None, generator: torch.Generator) -> list[int]:
        """The prompt's symbols, or where to begin without one; a run whose ids have been taken away begins with a line end."""
        if prompt is not None and not isinstance(prompt, str):
            raise InputError(f'`prompt` is {prompt!r}; expected a text, as in generate("The "). Give one, or None to begin anew.')
        if prompt is not None:
            return self.vocabulary.encode_prompt(prompt)
        there = (self.folder / "tokens" / "corpus.json").is_file()
        return start_of(self.vocabulary, Corpus.open(self.folder).sections["train"] if there else None, generator)

    def held_out(self, wanted: str | None = None) -> tuple[str, Section]:
        """A section of the run's own text, and its name; None: "test", or "valid" where there is none.

        Raises:
            InputError: it has fewer than two symbols.
        """
        sections = Corpus.open(self.folder).sections
        names = [name for name in ((wanted,) if wanted else ("test", "valid")) if len(sections[name].tokens) >= 2]
        if not names:
            raise InputError(
                f"{self.folder} has no text in its section {wanted or 'test, nor in valid'}; expected two symbols or more. "
                "Give a text of its own."
            )
        return names[0], sections[names[0]]


def start_of(vocabulary: AbstractVocabulary, section: Section | None, generator: torch.Generator) -> list[int]:
    """The symbols to begin with, from the initial state: the first one of a document of a section, or a line end where there are none."""
    if section is None or section.borders is None:
        return vocabulary.start()
    drawn = (first_symbol(section.tokens, section.borders, generator) for _ in range(_DRAWS))
    symbol = next((symbol for symbol in drawn if symbol != vocabulary.unknown), None)
    if symbol is not None and symbol >= vocabulary.size:
        raise InputError(
            f"a document of the run begins with symbol {symbol}; expected less than {vocabulary.size}, the vocabulary's size. Train again."
        )
    return vocabulary.start() if symbol is None else [symbol]
