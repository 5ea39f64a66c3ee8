"""How well a language model predicts a text it has not learned from."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from .. import _check
from .._check import InputError
from ..data import AbstractStream, Documents, Section, SequenceStream, TokenStream
from ..models import LanguageModel
from ._score import AbstractScore
from ._unit import number


@final
@dataclass(frozen=True)
class Score(AbstractScore):
    """The mean loss of a text, in every unit people ask for.

    Attributes:
        nats: per symbol, −mean ln p.
        tokens: symbols predicted: all but the first of each document.
        characters: of the text that was read; an estimate where only a part of it was.
        unknown: symbols read as <unk>, with the same reserve.
        streams: side by side, each from the initial state.
        unknown_bits: that spell what <unk> stands for; None: unknown too.
        documents: each one's first symbol is not predicted.
    """

    nats: float
    tokens: int
    characters: int
    unknown: int
    streams: int
    unknown_bits: float | None = None
    documents: int = 1

    @property
    def loss(self) -> float:
        return self.nats

    @property
    def bits_per_token(self) -> float:
        return self.nats / math.log(2)

    @property
    def bits_per_character(self) -> float | None:
        """The text's bits over its characters, the first symbols counted at the mean of the others, and what <unk> stands for spelled out.

        None where that is not known: a model that calls every word unknown would have the best figure of all.
        """
        if self.unknown and self.unknown_bits is None:
            return None
        return (self.bits_per_token * (self.tokens + self.documents) + (self.unknown_bits or 0.0)) / max(1, self.characters)

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats) if self.nats < 700 else math.inf

    def as_dict(self) -> dict[str, float | None]:
        """Every unit, by name."""
        units: dict[str, float | None] = {
            "nats": self.nats,
            "bits_per_token": self.bits_per_token,
            "bits_per_character": self.bits_per_character,
            "perplexity": self.perplexity,
        }
        return units | {"tokens": self.tokens, "characters": self.characters, "unknown": self.unknown, "streams": self.streams}

    def line(self) -> str:
        return f"{number(self.nats, 3)} nats  {number(self.bits_per_character, 3)} bits/character  perplexity {number(self.perplexity, 2)}"

    def table(self, name: str) -> dict[str, dict[str, str]]:
        cells = {
            "nats/token": number(self.nats, 4),
            "bits/token": number(self.bits_per_token, 4),
            "bits/character": number(self.bits_per_character, 4),
            "perplexity": number(self.perplexity, 3),
            "tokens": f"{self.tokens:,}",
            "unknown": f"{self.unknown:,}",
        }
        return {name: cells}


def streams_for(tokens: int) -> int:
    """One stream for a short text, more for a long one, 4096 symbols or more in each and at most 64."""
    return max(1, min(64, tokens // 4096))


@torch.no_grad()
def evaluate(
    model: LanguageModel,
    section: Section,
    *,
    window: int = 128,
    streams: int | None = None,
    most: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Score:
    """Predict every symbol of a section but the first of each document, the state carried from window to window.

    Args:
        model: put in evaluation mode meanwhile.
        section: ids and what they stand for.
        window: steps at a time; the score does not depend on it.
        streams: the section is read in so many pieces side by side; None: ``streams_for``.
        most: read only this many symbols from the start; None: all.
        progress: told windows done and in all.

    Raises:
        InputError: fewer than two symbols.
    """
    size = len(section.tokens) if most is None else min(most, len(section.tokens))
    if size < 2:
        raise InputError(
            f"the text to evaluate has {_check.counted(size, 'symbol')}; expected at least 2. Give a longer text, or a larger share "
            "with `split`."
        )
    if streams is not None and streams > size - 1:
        raise InputError(f"`streams` is {streams:,} and the text has {size:,} symbols; expected {size - 1:,} streams at most. Give fewer.")
    B = streams or streams_for(size)
    stream, predicted = _stream(section, size, B, window)
    device = model.head.weight.device
    total, state, was_training = 0.0, None, model.training
    model.eval()
    try:
        for i in range(len(stream)):
            batch = stream[i].to(device)
            anew = batch.fresh is not None and bool(batch.fresh.all())  # the streams of a window begin together, or go on together
            hs, state = model.recurrence(model.enter(batch), None if anew else state)
            total += float(model.losses(hs, batch).double().sum())
            progress(i + 1, len(stream))
    finally:
        model.train(was_training)
    characters, unknown = (round(n * size / len(section.tokens)) for n in (section.characters, section.unknown))
    bits = None if section.unknown_bits is None else section.unknown_bits * size / len(section.tokens)
    return Score(total / predicted, predicted, characters, unknown, B, bits, size - predicted)


def _stream(section: Section, size: int, B: int, window: int) -> tuple[AbstractStream, int]:
    """The first ``size`` symbols as B streams, and how many of them are predicted."""
    tokens = section.tokens if size == len(section.tokens) else section.tokens.read(0, size)
    if section.borders is None:
        return TokenStream(tokens, batch_size=B, window=window, whole=True), size - 1
    borders = np.append(section.borders[: np.searchsorted(section.borders, size)], size)
    documents = Documents(tokens, borders, -(-size // B))
    if not len(documents.lengths):
        raise InputError("every document of the text to evaluate is a single symbol; expected longer ones, to predict one. Give others.")
    return SequenceStream(documents, batch_size=B, window=window), int(documents.lengths.sum())
