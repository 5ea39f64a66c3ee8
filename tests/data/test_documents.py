"""Texts of many documents: each begins anew, nothing is predicted across a border, and the losses are those of each one alone."""

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from throughtime import LanguageModel
from throughtime.cli import main
from throughtime.data import Corpus, Documents, TextSource, _sources
from throughtime.gradients import FullBPTT
from throughtime.training import LoopOptions, evaluate, load
from throughtime.training.tasks import _text

RNG = np.random.default_rng(3)
TEXTS = ["".join(RNG.choice(list("ab cdé\n"), int(size))).strip() + "." for size in RNG.integers(1, 90, 60)]
LEVELS = ["char", "byte", "word", "bpe"]


def write(path: Path, texts=TEXTS, **more) -> Path:
    lines = "\n".join(json.dumps({"id": i, "text": text, **more}, ensure_ascii=i % 2 == 0) for i, text in enumerate(texts))
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def documents(corpus: Corpus, name: str) -> list[list[int]]:
    section = corpus.sections[name]
    borders = [0, len(section.tokens)] if section.borders is None else section.borders.tolist()
    return [section.tokens.read(a, b).tolist() for a, b in pairwise(borders)]


@pytest.mark.parametrize("level", LEVELS)
def test_each_line_is_a_document_wherever_the_chunks_end(tmp_path, monkeypatch, level):
    size = 300 if level == "bpe" else None
    whole = Corpus.build(TextSource((write(tmp_path / "a.jsonl"),)), tmp_path / "whole", level=level, vocabulary_size=size)
    found = [ids for name in ("train", "valid", "test") for ids in documents(whole, name)]
    assert len(found) == len(TEXTS)
    for ids, text in zip(found, TEXTS, strict=True):
        assert ids == whole.vocabulary.encode(text).tolist()
    monkeypatch.setattr(_sources, "_CHUNK", 7)
    cut = Corpus.build(TextSource((write(tmp_path / "a.ndjson.gz"),)), tmp_path / "cut", level=level, vocabulary_size=size)
    assert cut.vocabulary.to_json() == whole.vocabulary.to_json()
    assert [ids for name in ("train", "valid", "test") for ids in documents(cut, name)] == found


def test_words_at_a_border_stay_two_words(tmp_path):
    corpus = Corpus.build(TextSource((write(tmp_path / "a.jsonl", ["a b", "c d"] * 9),)), tmp_path / "run", level="word")
    assert {"b", "c"} < set(corpus.vocabulary.to_json()["words"])  # type: ignore[index, call-overload]


def test_files_of_a_folder_and_files_by_name(tmp_path):
    folder = tmp_path / "books"
    folder.mkdir()
    for i, text in enumerate(TEXTS[:9]):
        (folder / f"{i}.txt").write_text(text)
    apart = Corpus.build(TextSource((folder,), split=(1.0, 0.0, 0.0)), tmp_path / "apart")
    assert [apart.vocabulary.decode(ids) for ids in documents(apart, "train")] == TEXTS[:9]
    names = tuple(sorted(folder.iterdir()))
    joined = Corpus.build(TextSource(names, split=(1.0, 0.0, 0.0)), tmp_path / "joined")
    assert joined.sections["train"].borders is None
    asked = Corpus.build(TextSource(names, split=(1.0, 0.0, 0.0), documents=True), tmp_path / "asked")
    assert documents(asked, "train") == documents(apart, "train")


def test_sections_end_where_documents_end_unless_one_would_be_empty(tmp_path):
    texts = ["ab" * 30, "b" * 33, "c" * 7]
    corpus = Corpus.build(TextSource((write(tmp_path / "a.jsonl", texts),), split=(0.5, 0.3, 0.2)), tmp_path / "run")
    assert [corpus.sections[name].characters for name in ("train", "valid", "test")] == [60, 33, 7]
    corpus = Corpus.build(TextSource((write(tmp_path / "a.jsonl", texts),), split=(0.7, 0.1, 0.2)), tmp_path / "cut")
    assert [corpus.sections[name].characters for name in ("train", "valid", "test")] == [70, 10, 20]
    assert [len(ids) for ids in documents(corpus, "train")] == [60, 10]
    assert [len(ids) for ids in documents(corpus, "test")] == [13, 7]


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=12), longest=st.none() | st.integers(1, 40))
def test_every_symbol_but_the_first_of_a_document_is_a_target_once(sizes, longest):
    borders = np.concatenate(([0], np.cumsum(sizes)))
    parts = Documents(np.arange(borders[-1]), borders, longest)
    pairs: Counter[tuple[int, int]] = Counter()
    for i, length in enumerate(parts.lengths):
        steps = parts.read(i, 0, int(length))
        assert longest is None or length <= longest
        pairs.update(zip(steps.inputs.tolist(), steps.targets.tolist(), strict=True))
    wanted = [(a, a + 1) for begin, end in pairwise(borders) for a in range(begin, end - 1)]
    assert pairs == Counter(wanted)


def of_each(model: LanguageModel, texts: list[list[int]]) -> tuple[torch.Tensor, int]:
    """The losses of documents, each read alone from the initial state, and how many there are."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for ids in texts:
        if len(ids) > 1:
            o, _ = model(torch.tensor(ids[:-1])[:, None])
            total = total + torch.nn.functional.cross_entropy(o[:, 0], torch.tensor(ids[1:]), reduction="sum")
            count += len(ids) - 1
    return total, count


@pytest.fixture
def corpus(tmp_path):
    return Corpus.build(TextSource((write(tmp_path / "a.jsonl"),), split=(0.6, 0.2, 0.2)), tmp_path / "run")


def test_the_score_is_that_of_each_document_alone(corpus):
    torch.manual_seed(0)
    model = LanguageModel(corpus.vocabulary.size, hidden_size=9).double()
    texts = documents(corpus, "test")
    total, count = of_each(model, texts)
    for streams in (1, 5):  # of 514 symbols; the longest document has 88, so that none is cut
        score = evaluate(model, corpus.sections["test"], window=16, streams=streams)
        assert score.tokens == count
        assert score.documents == len(texts)
        assert abs(score.nats - total.item() / count) < 1e-13 * score.nats
    # the first 100 symbols: whole documents, and the beginning of one
    head, left = [], 100
    for ids in texts:
        head.append(ids[:left])
        left -= len(head[-1])
    total, count = of_each(model, [ids for ids in head if ids])
    score = evaluate(model, corpus.sections["test"], window=16, most=100)
    assert score.tokens == count
    assert abs(score.nats - total.item() / count) < 1e-13 * score.nats


def test_a_pass_of_training_is_the_loss_of_each_document_and_its_gradient(corpus):
    """With a window that no document outlasts, the sums over a pass are those of autograd over each document alone."""
    torch.manual_seed(0)
    model = LanguageModel(corpus.vocabulary.size, hidden_size=9, reduction="sum").double()
    stream = _text.training_stream(corpus, LoopOptions(batch_size=4, bptt=100))
    texts, total, carry = documents(corpus, "train"), 0.0, None
    for i in range(len(stream)):
        batch = stream.at(i)
        assert batch.fresh is not None
        assert bool(batch.fresh.all())
        outcome = FullBPTT().accumulate(model, batch, carry)
        total, carry = total + float(outcome.loss), outcome.carry
    mine = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    wanted, count = of_each(model, texts)
    wanted.backward()
    wanted = wanted.detach()
    theirs = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert sum(stream.at(i).counted() for i in range(len(stream))) == count
    # a sum of `count` terms, each right to some eps: c · eps · count, c = 10
    assert abs(total - float(wanted)) < 10 * 2e-16 * count * float(wanted)
    assert float((mine - theirs).norm()) < 10 * 2e-16 * count * float(theirs.norm())


def test_windows_go_on_with_their_documents_and_the_order_is_the_seeds(corpus):
    one, other = (_text.training_stream(corpus, LoopOptions(batch_size=4, bptt=16, seed=seed)) for seed in (1, 2))
    again = _text.training_stream(corpus, LoopOptions(batch_size=4, bptt=16, seed=1))
    passes = [[one.at(step) for step in range(epoch * len(one), (epoch + 1) * len(one))] for epoch in (0, 1)]
    for step, batch in enumerate(passes[0] + passes[1]):
        assert torch.equal(batch.inputs, again.at(step).inputs)
    orders = [torch.cat([b.inputs.flatten() for b in batches]).tolist() for batches in passes]
    assert orders[0] != orders[1]
    assert any(not torch.equal(one.at(i).inputs, other.at(i).inputs) for i in range(len(one)))
    fresh = [bool(batch.fresh.all()) for batch in passes[0] if batch.fresh is not None]
    assert 1 < sum(fresh) < len(fresh)


BAD = {
    '{"text": "one"': "line 2 is no JSON",
    '["one"]': "line 2 is no object; expected such as",
    '{"body": "one", "n": 3}': "line 2 has no field 'text'; expected one of its texts: body. Name the field with --field",
    '{"text": 3}': "line 2: 'text' is 3; expected a text",
    '{"text": "\\ud800"}': "line 2: 'text' has half a character",
}


@pytest.mark.parametrize("line", BAD)
@pytest.mark.parametrize("level", ["char", "byte"])
def test_a_bad_line_is_told_by_its_number(tmp_path, capsys, line, level):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    assert main(["train", "text", str(path), "--level", level, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert f"{path}, {BAD[line]}" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_gradient_flow_of_documents(tmp_path):
    lines, run = write(tmp_path / "a.jsonl"), tmp_path / "run"
    assert main(["train", "text", str(lines), "--hidden", "8", "--bptt", "8", "--batch-size", "4", "--steps", "2", "--out", str(run)]) == 0
    assert main(["flow", str(run), "--json"]) == 0
    assert main(["flow", str(run), "--json", "--data", str(lines)]) == 0
    assert main(["compare-gradients", str(run), "--methods", "full", "truncated:k1=4,k2=8", "--picture", str(tmp_path / "p.png")]) == 0


@pytest.mark.slow
def test_from_the_shell(tmp_path, capsys, monkeypatch):
    lines = write(tmp_path / "texts", [f"{'xyz'[i % 3]} and {text}" for i, text in enumerate(TEXTS)], body="unused")
    run = tmp_path / "run"
    small = ["--hidden", "8", "--bptt", "8", "--batch-size", "4", "--threads", "1"]
    assert main(["train", "text", str(lines), "--field", "text", *small, "--steps", "3", "--out", str(run)]) == 0
    assert "in 60 documents" in capsys.readouterr().out
    assert main(["train", "text", "--out", str(run), "--resume", "--steps", "5"]) == 0
    trained = load(run)
    begins = {trained.generate(length=1, seed=seed)[0] for seed in range(40)}
    assert begins == set("xyz")
    (run / "tokens" / "corpus.json").rename(tmp_path / "aside")
    assert load(run).generate(length=1, seed=0)[0] not in "xyz"  # without the ids, a line end or what stands for it
    (tmp_path / "aside").rename(run / "tokens" / "corpus.json")
    capsys.readouterr()
    other = write(tmp_path / "other", ["x and", "y"])
    assert main(["evaluate", str(run), "--data", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 4
    np.save(run / "tokens" / "train.documents.npy", np.array([0, 5, 3]))
    capsys.readouterr()
    assert main(["train", "text", "--out", str(run), "--resume", "--steps", "7"]) == 2
    assert "train.documents.npy has int64 (3,); expected int64 (55,): it was changed" in capsys.readouterr().err
