"""Comparing methods: what is measured, on methods whose bias, noise and memory are known."""

from dataclasses import dataclass, replace
from typing import final

import pytest
import torch
from _networks import network, series
from _truth import rounding

from throughtime.cells import GRU, Elman
from throughtime.gradients import AbstractGradient, FullBPTT, RandomTruncatedBPTT, SlidingBPTT, TruncatedBPTT, compare
from throughtime.gradients._compare import peak_bytes
from throughtime.models import LanguageModel


@final
@dataclass(frozen=True)
class Wrong(AbstractGradient):
    """The exact gradient times ``factor``, with normal noise of ``deviation`` on every number."""

    factor: float = 1.0
    deviation: float = 0.0
    seed: int = 0
    agrees = "approximately"

    def accumulate(self, model, batch, carry=None):
        done = FullBPTT().accumulate(model, batch, None)
        chance = torch.Generator().manual_seed(self.seed)
        for p in model.parameters():
            p.grad = self.factor * p.grad + self.deviation * torch.randn(p.shape, generator=chance, dtype=p.dtype)
        return done


@final
@dataclass(frozen=True)
class Refuses(AbstractGradient):
    """Does nothing for anybody."""

    agrees = "exactly"

    def accumulate(self, model, batch, carry=None):
        raise NotImplementedError("this cell has no such thing; FullBPTT would do")


def one(method: AbstractGradient, model=None, batch=None, **options):
    model, batch = model or network(GRU(), layers=1), batch or series(9, 4)
    (row,) = compare(model, batch, {"it": method}, **options)
    return row


def test_exact_methods_are_exact():
    for method in (FullBPTT(), TruncatedBPTT(9), SlidingBPTT(9)):
        row = one(method)
        assert row.bias < rounding()
        assert row.cosine == pytest.approx(1, abs=rounding())
        assert (row.draws, row.variance, row.refused) == (1, 0, None)


def test_a_gradient_that_is_wrong_by_a_tenth_of_a_percent_is_seen():
    row = one(Wrong(1.001), draws=2)
    assert row.bias == pytest.approx(1e-3, rel=1e-6)
    assert row.cosine == pytest.approx(1, abs=rounding())


def test_noise_is_told_from_bias():
    """Variance is P σ² / ‖g‖², within 4 standard errors √(2 / (P n)) of a chi-square; the bias is no larger than chance makes it."""
    model, batch, n = network(GRU(), layers=1), series(9, 4), 40
    parameters = [*model.input.parameters(), *model.recurrence.parameters()]
    FullBPTT().accumulate(model, batch)
    P, square = sum(p.numel() for p in parameters), sum(float(p.grad.square().sum()) for p in parameters)
    row = one(Wrong(deviation=0.1), model, batch, draws=n)
    assert row.draws == n
    assert row.variance == pytest.approx(P * 0.01 / square, rel=4 * (2 / (P * n)) ** 0.5)
    assert row.noise == pytest.approx((row.variance / n) ** 0.5)
    assert row.bias == pytest.approx(row.noise, rel=0.3)
    assert one(RandomTruncatedBPTT(3.0), model, batch, draws=30).bias < 0.5


def test_the_head_is_left_out():
    """A window of one step: with the head's exact gradient in it the bias would look smaller."""
    model, batch = network(Elman(), layers=1), series(9, 4)
    row = one(TruncatedBPTT(1), model, batch)
    gradients = []
    for method in (TruncatedBPTT(1), FullBPTT()):
        model.zero_grad()
        method.accumulate(model, batch)
        gradients.append(torch.cat([p.grad.flatten() for p in model.recurrence.parameters()]))
    assert row.bias == pytest.approx(float((gradients[0] - gradients[1]).norm() / gradients[1].norm()), rel=1e-9)


def test_a_method_that_refuses_is_listed_with_its_reason():
    row = one(Refuses())
    assert (row.refused, row.bias, row.milliseconds) == ("this cell has no such thing; FullBPTT would do", None, None)


def test_memory_is_what_the_allocator_held():
    def work() -> None:
        a = torch.empty(1000)
        b = torch.empty(500)
        del a
        torch.empty(200)
        del b

    assert peak_bytes(work) == 8 * 1500  # float64
    model, batch = network(GRU(), layers=1), series(512, 4)
    assert one(TruncatedBPTT(16), model, batch).peak_bytes < 0.5 * one(FullBPTT(), model, batch).peak_bytes


def test_the_model_is_left_as_it_was():
    model = LanguageModel(7, hidden_size=5, dropout=0.5).float()
    ids = torch.randint(7, (9, 3))
    batch, before = replace(series(8, 3), inputs=ids[:-1], targets=ids[1:]), [p.clone() for p in model.parameters()]
    rows = list(compare(model, batch, {"a": FullBPTT(), "b": RandomTruncatedBPTT(4.0)}, draws=2))
    assert rows[0].bias < rounding()  # without dropout
    assert model.training
    assert all(torch.equal(p, q) and p.grad is None and p.dtype == torch.float32 for p, q in zip(model.parameters(), before, strict=True))


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match="draws is 1; expected at least 2"):
        one(FullBPTT(), draws=1)
    with pytest.raises(ValueError, match="the exact gradient of this batch is 0"):
        one(FullBPTT(), batch=series(4, 2, mask=torch.zeros(4, 2, dtype=torch.bool)))
