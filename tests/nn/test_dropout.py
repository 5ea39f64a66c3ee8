"""Dropout by sixteen bits a unit: how often, how much, and the same wherever a stack draws it."""

import math

import pytest
import torch

from throughtime import cells, nn
from throughtime.nn import Dropout, drawn_mask


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("place", range(4))
def test_each_place_of_a_word_is_dropped_as_often(p, place):
    """Four units share 64 bits. The count is binomial: 5 standard deviations."""
    torch.manual_seed(0)
    n = 40_000
    kept = drawn_mask(torch.empty(4 * n), p)[place::4].count_nonzero().item()
    assert abs(kept - (1 - p) * n) < 5 * math.sqrt(p * (1 - p) * n)


def test_neighbours_are_dropped_independently():
    """Both of a pair are kept with probability (1 − p)², whatever their distance in a word."""
    torch.manual_seed(1)
    n, p = 80_000, 0.3
    kept = drawn_mask(torch.empty(n), p) > 0
    for distance in (1, 2, 3, 4):
        both = (kept[distance:] & kept[:-distance]).sum().item()
        # The pairs overlap: at most 3 of them share a unit, so that the variance is at most 3 n q (1 − q).
        q = (1 - p) ** 2
        assert abs(both - q * (n - distance)) < 5 * math.sqrt(3 * q * (1 - q) * n)


@pytest.mark.parametrize("p", [0.1, 0.25, 1e-5, 0.99999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_factor_keeps_the_expectation(p, dtype):
    """factor · (1 − p) is 1 exactly for the p that is drawn with, a multiple of 2⁻¹⁶."""
    torch.manual_seed(0)
    values = set(drawn_mask(torch.empty(2**21, dtype=dtype), p).unique().tolist()) - {0.0}
    drawn = round(p * 2**16) / 2**16
    assert values == {float(torch.tensor(1 / (1 - drawn), dtype=dtype))}


@pytest.mark.parametrize(("p", "wanted"), [(0.0, 1.0), (1e-6, 1.0), (1.0, 0.0)])
def test_the_ends(p, wanted):
    layer = Dropout(p)
    torch.testing.assert_close(layer(torch.ones(50)), torch.full((50,), wanted), rtol=2e-6, atol=0)


def test_nothing_is_dropped_in_evaluation():
    xs = torch.randn(7, 3)
    assert torch.equal(Dropout(0.5).eval()(xs), xs)


def test_the_gradient_has_the_mask():
    xs = torch.randn(5, 3, requires_grad=True)
    torch.manual_seed(2)
    Dropout(0.4)(xs).sum().backward()
    torch.manual_seed(2)
    assert torch.equal(xs.grad, drawn_mask(xs, 0.4))


def test_a_trace_draws_what_forward_draws():
    stack, xs = nn.Recurrence(cells.GRU(), 3, 5, num_layers=3, dropout=0.4), torch.randn(6, 2, 3)
    torch.manual_seed(3)
    hs, _ = stack(xs)
    torch.manual_seed(3)
    assert torch.equal(stack.trace(xs).hs, hs)
