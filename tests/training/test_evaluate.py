"""A score is the mean loss of a literal loop over the text."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from throughtime import InputError, LanguageModel, evaluate
from throughtime.data import Chars, Section, Tokens
from throughtime.training import Score


@pytest.fixture
def section(tmp_path):
    ids = np.random.default_rng(0).integers(0, 9, 301).astype("u1")
    (tmp_path / "ids.bin").write_bytes(ids.tobytes())
    return Section(Tokens(tmp_path / "ids.bin", np.dtype("u1")), characters=602, unknown=30)


@pytest.fixture
def model():
    torch.set_default_dtype(torch.float64)
    return LanguageModel(9, hidden_size=5, dropout=0.5)


def literal(model: LanguageModel, ids: list[int]) -> float:
    """−Σ ln p(w_{t+1} | w_1 … w_t), a symbol at a time."""
    model.eval()
    total, state = 0.0, None
    with torch.no_grad():
        for now, following in pairwise(ids):
            hs, state = model.recurrence(model.input(torch.tensor([[now]])), state)
            total -= float(torch.log_softmax(model.head(hs[0, 0]), 0)[following])
    return total


@pytest.mark.parametrize("window", [1, 7, 500])
def test_one_stream_is_the_literal_loop(model, section, window):
    ids = section.tokens.read(0, 301).tolist()
    score = evaluate(model, section, window=window, streams=1)
    assert score.nats == pytest.approx(literal(model, ids) / 300, rel=1e-12)
    assert (score.tokens, score.characters, score.unknown, score.streams) == (300, 602, 30, 1)


def test_streams_start_anew_and_every_symbol_is_predicted_once(model, section):
    ids = section.tokens.read(0, 301).tolist()
    pieces = [ids[b * 43 : min(301, (b + 1) * 43 + 1)] for b in range(7)]
    score = evaluate(model, section, window=10, streams=7)
    assert score.nats == pytest.approx(sum(literal(model, piece) for piece in pieces) / 300, rel=1e-12)


def test_a_part_of_it(model, section):
    score = evaluate(model, section, most=101, streams=1)
    assert score.nats == pytest.approx(literal(model, section.tokens.read(0, 101).tolist()) / 100, rel=1e-12)
    assert (score.tokens, score.characters, score.unknown) == (100, 202, 10)


def test_the_model_is_in_evaluation_mode_meanwhile(model, section):
    model.train()
    assert evaluate(model, section).nats == evaluate(model, section).nats
    assert model.training


def test_units():
    score = Score(nats=2 * math.log(2), tokens=99, characters=50, unknown=0, streams=1)
    assert score.bits_per_token == pytest.approx(2)
    assert score.perplexity == pytest.approx(4)
    assert score.bits_per_character == pytest.approx(4)  # 100 tokens of 2 bits over 50 characters
    assert Score(800.0, 1, 1, 0, 1).perplexity == math.inf
    assert set(score.as_dict()) >= {"nats", "bits_per_token", "bits_per_character", "perplexity", "tokens"}


def test_too_short(model, tmp_path):
    (tmp_path / "one.bin").write_bytes(b"\x01")
    with pytest.raises(InputError, match="the text to evaluate has 1 symbol; expected at least 2"):
        evaluate(model, Section(Tokens(tmp_path / "one.bin", Chars("ab").dtype), 1, 0))
