"""Indices of a small table enter the recurrence before they are looked up: the same loss and gradients as with vectors."""

import pytest
import torch
from _truth import assert_close

from throughtime import Batch, LanguageModel, set_kernels
from throughtime.cells import GRU, LSTM, Elman
from throughtime.gradients import FullBPTT, TruncatedBPTT
from throughtime.nn import Learnable, Rows


@pytest.fixture
def _plain_again():
    yield
    set_kernels("fast")


def gradients(model, method, batches):
    model.zero_grad()
    carry = None
    for batch in batches:
        loss, carry = method.accumulate(model, batch, carry)
    return [loss, *(p.grad.clone() for p in model.parameters())]


@pytest.mark.usefixtures("_plain_again")
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("method", [FullBPTT(), TruncatedBPTT(4), TruncatedBPTT(3, 7)], ids=str)
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_rows_and_vectors_agree(cell, method, tied):
    model = LanguageModel(6, cell=cell, hidden_size=5, num_layers=2, tied=tied, initial=Learnable())
    ids = torch.randint(6, (25, 3))
    batches = [Batch(ids[:12], ids[1:13]), Batch(ids[12:24], ids[13:])]
    assert isinstance(model.enter(batches[0]), Rows)
    got = gradients(model, method, batches)
    set_kernels("plain")
    assert isinstance(model.enter(batches[0]), torch.Tensor)
    assert_close(got, gradients(model, method, batches))


def test_what_is_looked_up_first():
    """A large table, vectors, or dropout on the vectors: then there is nothing to gain, or something to lose."""
    few = Batch(torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2, dtype=torch.long))
    many = Batch(torch.zeros(9, 2, dtype=torch.long), torch.zeros(9, 2, dtype=torch.long))
    model, dropping = LanguageModel(6, hidden_size=5), LanguageModel(6, hidden_size=5, dropout=0.5)
    assert isinstance(model.enter(many), Rows)
    assert model.enter(many).shape == model.embed(many).shape == (9, 2, 5)
    assert torch.equal(model.enter(many).vectors(), model.embed(many))
    assert isinstance(model.enter(few), torch.Tensor)
    assert isinstance(dropping.enter(many), torch.Tensor)
    assert isinstance(dropping.eval().enter(many), Rows)
    assert isinstance(LanguageModel(6, hidden_size=5, dropout=0.5, input_dropout=0.0).enter(many), Rows)
    one_hot = LanguageModel(6, hidden_size=5, embedding_size=0)
    assert isinstance(one_hot.enter(many), torch.Tensor)
    p = Batch(torch.full((9, 2, 6), 1 / 6), many.targets)
    assert isinstance(model.enter(p), torch.Tensor)
