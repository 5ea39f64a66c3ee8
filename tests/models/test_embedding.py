"""The gradient of a looked-up table is the same dense sum, whatever the table's ``grad`` holds by then."""

import pytest
import torch

from throughtime import Batch, LanguageModel, gradient_flow
from throughtime.gradients import FullBPTT
from throughtime.models import Embedding


@pytest.mark.parametrize("V", [7, 8192])  # 8192 rows of 8 are 65,536 numbers
def test_what_the_gradient_is_does_not_depend_on_grad(V):
    """A table that has a ``grad`` already: in the middle of a training, between two windows, after another batch."""
    station, inputs, dxs = Embedding(V, 8), torch.randint(7, (5, 2)), torch.randn(5, 2, 8)
    table = station.weight
    (fresh,) = torch.autograd.grad(station(inputs), table, dxs)
    table.grad = torch.ones_like(table)
    (later,) = torch.autograd.grad(station(inputs), table, dxs)
    assert later.layout == fresh.layout == torch.strided
    assert torch.equal(later, fresh)
    assert torch.equal(table.grad, torch.ones_like(table))


def test_gradient_flow_in_the_middle_of_a_training():
    V, H = 4096, 16  # 65,536 numbers
    model, ids = LanguageModel(V, hidden_size=H), torch.randint(V, (8, 3))
    batch = Batch(ids[:-1], ids[1:])
    before = gradient_flow(model, batch, max_lag=3)
    FullBPTT().accumulate(model, batch, None)
    after = gradient_flow(model, batch, max_lag=3)
    assert torch.equal(after.lags.total, before.lags.total)
