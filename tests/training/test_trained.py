"""A run from Python: ``load``, ``generate``, ``evaluate``; and a model that is called."""

import pytest
import torch
from torch.testing import assert_close

import throughtime as tt
from throughtime import cells, models, nn
from throughtime.training import train


@pytest.fixture
def run(make_run, console):
    run = make_run()
    train(run, console=console)
    return run


def test_what_is_there(run):
    trained = tt.load(str(run.path))
    assert trained.options == run.config
    assert trained.vocabulary.decode(trained.vocabulary.encode("the cat")) == "the cat"
    assert [row["kind"] for row in trained.metrics] == ["valid", "train", "valid", "train", "valid"]
    assert isinstance(trained.model, tt.LanguageModel)
    assert not trained.model.training
    assert trained.folder == run.path


def test_generate(run):
    trained = tt.load(run.path)
    one = trained.generate("the ", 20, seed=3)
    assert one == trained.generate("the ", 20, seed=3)
    assert one != trained.generate("the ", 20, seed=4)
    assert one.startswith("the ")
    assert len(one) == 24
    assert "".join(trained.write("the ", 20, seed=3)) == one
    assert trained.generate(length=5, temperature=0).startswith("\n")
    with pytest.raises(tt.InputError, match="the prompt has 'Z'"):
        trained.generate("Z")


def test_the_unknown_symbol_is_never_written(run):
    trained = tt.load(run.path)
    with torch.no_grad():
        trained.model.head.bias[trained.vocabulary.unknown] = 1e3
    assert "<unk>" not in trained.generate("the ", 50, seed=1)
    ids = list(trained.model.sample([1], 50, generator=torch.Generator().manual_seed(0)))
    assert set(ids) == {trained.vocabulary.unknown}


def test_evaluate(run, text_file):
    trained = tt.load(run.path)
    name, section = trained.held_out()
    assert name == "test"
    assert trained.evaluate().nats == tt.evaluate(trained.model, section).nats
    whole = trained.evaluate(str(text_file), streams=1)
    assert whole.tokens == len(text_file.read_text()) - 1
    with pytest.raises(tt.InputError, match=r"missing.txt cannot be read"):
        trained.evaluate("missing.txt")


def test_no_run(tmp_path):
    with pytest.raises(tt.InputError, match="is no run folder"):
        tt.load(tmp_path)


@pytest.mark.parametrize("cell", [cells.Elman(), cells.GRU(), cells.LSTM()], ids=str)
def test_a_model_is_called(cell):
    """In pieces it gives what the whole gives: the same products in another order, each rounded (float64)."""
    torch.set_default_dtype(torch.float64)
    model = tt.LanguageModel(7, cell=cell, hidden_size=5, num_layers=2)
    tokens = torch.randint(7, (9, 3))
    whole, last = model(tokens)
    first, state = model(tokens[:4])
    second, end = model(tokens[4:], state)
    assert whole.shape == (9, 3, 7)
    tolerance = {"rtol": 0, "atol": 9 * 2 * 20 * torch.finfo(torch.float64).eps}  # T · L · roundings of a unit
    assert_close(torch.cat((first, second)), whole, **tolerance)
    for one, other in zip(last, end, strict=True):
        assert_close(one, other, **tolerance)


def test_a_called_model_is_what_training_scores():
    torch.set_default_dtype(torch.float64)
    model = tt.LanguageModel(7, hidden_size=5)
    ids = torch.randint(7, (10, 3))
    batch = tt.Batch(ids[:-1], ids[1:])
    outputs, _ = model(batch.inputs)
    wanted = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten())
    assert_close(tt.gradients.FullBPTT().accumulate(model, batch).loss, wanted, rtol=0, atol=1e-13)  # 27 losses of order 2, 5 terms each


def test_a_model_of_vectors_is_called():
    model = models.SequenceModel(
        models.Vectors(2), nn.Recurrence(cells.GRU(), 2, 4), models.Head(4, 3, output=models.Linear(), loss=models.SquaredError())
    )
    outputs, state = model(torch.randn(6, 5, 2))
    assert outputs.shape == (6, 5, 3)
    assert [tuple(s.shape) for s in state] == [(1, 5, 4)]
    with pytest.raises(tt.InputError, match="expected real vectors"):
        model(torch.zeros(6, 5, dtype=torch.int64))


def test_the_verbs_of_every_run(run):
    trained = tt.load(run.path)
    assert trained.sample("the ", 20, seed=3) == trained.generate("the ", 20, seed=3)
    ids = torch.tensor(trained.vocabulary.encode("the "))
    with torch.no_grad():
        o, _ = trained.model(ids.unsqueeze(1))
    p = o[-1, 0].softmax(0)
    told = trained.predict("the ", 5)
    assert list(told.values()) == sorted(told.values(), reverse=True)
    assert_close(torch.tensor(list(told.values())), p.sort(descending=True).values[:5])
    assert next(iter(told)) == trained.vocabulary.decode([int(p.argmax())])
    assert "<unk>" in trained.predict(most=1000)
    stream = trained.stream()
    assert isinstance(stream, tt.Stream)
    pushed = [stream.push(i) for i in ids][-1]
    assert_close(pushed, o[-1, 0])
    assert_close(tt.Stream(str(run.path)).push(ids[0]), o[0, 0])
    with pytest.raises(tt.InputError, match=r"is a language model of a text, which has no forecast\(\); expected .* Use generate\(\)"):
        trained.forecast(steps=3)
