"""A looked-up table's gradient: the sum over the rows used, whoever else adds to it, and no second array of the table's size."""

import pytest
import torch
from _truth import assert_close, rounding
from torch.nn import functional

from throughtime import Batch, LanguageModel
from throughtime.gradients import FullBPTT, TruncatedBPTT
from throughtime.models._lookup import _SMALL, lookup

SIZES = [(7, 3), (_SMALL // 8, 8), (_SMALL, 1)]  # below and at the size where a grad in place is added to by rows


def close(got, wanted):
    assert_close([got], [wanted], rounding(20, condition=10.0))  # sums of at most some ten terms, in any order, some of which cancel


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize(("V", "E"), SIZES)
def test_gradient_is_torchs(V, E, passes):
    mine, theirs = (torch.randn(V, E, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    for _ in range(passes):
        index = torch.randint(min(V, 9), (5, 2))  # rows come up several times
        dxs = torch.randn(5, 2, E)
        xs = lookup(mine, index)
        assert torch.equal(xs, theirs[index])
        xs.backward(dxs)
        functional.embedding(index, theirs).backward(dxs)
        assert not mine.grad.is_sparse
        close(mine.grad, theirs.grad)


@pytest.mark.parametrize(("V", "E"), SIZES)
def test_used_twice_in_one_graph(V, E):
    """A head that shares the table adds a dense gradient to it, before or after."""
    table = torch.randn(V, E, requires_grad=True)
    index, dxs, do = torch.randint(V, (4, 3)), torch.randn(4, 3, E), torch.randn(4, 3, V)
    for repeat in (1, 2):
        xs = lookup(table, index)
        torch.autograd.backward([xs, xs @ table.T], [dxs, do])
        dense = table.detach().clone().requires_grad_()
        torch.autograd.backward([dense[index], dense[index] @ dense.T], [dxs, do])
        assert not table.grad.is_sparse
        # sums of V or 12·E products
        assert_close([table.grad], [repeat * dense.grad], rounding(max(V, 12 * E), condition=10.0))


def test_second_pass_adds_rows_to_the_grad_that_is_there():
    """What arrives at the table is dense once, and from then on the rows used alone."""
    V, E = SIZES[1]
    table, arrived = torch.randn(V, E, requires_grad=True), []
    table.register_hook(lambda g: arrived.append(g._nnz() if g.is_sparse else g.numel()))
    lookup(table, torch.tensor([[0, 5]])).backward(torch.ones(1, 2, E))
    grad = table.grad
    lookup(table, torch.tensor([[5, 6]])).backward(torch.ones(1, 2, E))
    assert arrived == [V * E, 2]
    assert table.grad is grad
    assert grad[:7].sum(1).tolist() == [E, 0, 0, 0, 0, 2 * E, E]
    assert not grad[7:].any()


def test_derivatives_of_other_kinds():
    table, index = torch.randn(6, 3, requires_grad=True), torch.tensor([[0, 5], [5, 2]])
    assert torch.autograd.gradcheck(lambda t: lookup(t, index), table, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: lookup(t, index) ** 3, table)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("method", [FullBPTT(), TruncatedBPTT(2), TruncatedBPTT(2, 5)], ids=str)
def test_optimiser_sees_what_it_would_see(method, tied):
    """Dense moments: a row that was not used moves on by them, whichever way its gradient came."""
    V, models = 4200, []
    assert V * 16 >= _SMALL
    ids = torch.randint(V, (13, 3))
    for plain in (False, True):
        torch.manual_seed(0)
        model = LanguageModel(V, hidden_size=16, tied=tied)
        if plain:
            model.input.forward = lambda inputs, model=model: functional.embedding(inputs, model.input.weight)
        optimizer, carry = torch.optim.Adam(model.parameters(), 1e-2, fused=True), None
        for start in (0, 6):
            optimizer.zero_grad(set_to_none=start == 0)
            _, carry = method.accumulate(model, Batch(ids[start : start + 6], ids[start + 1 : start + 7]), carry)
            optimizer.step()
        models.append(model)
    for mine, theirs in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)  # of steps of 1e-2; Adam divides by √v, v down to rounding
