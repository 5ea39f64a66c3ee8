"""Every gradient method against its own definition, by brute force with torch's autograd."""

from collections.abc import Sequence
from dataclasses import replace

import _past
import pytest
import torch
from _gradients import DEFINED, DRAWN, Window
from _oracle import whole_past
from _past import B, T, calls, copies, cut, ragged, text, vector_model, vectors
from _rounding import path, rounding
from _tables import KINDS, first, name
from _truth import assert_close
from hypothesis import given, strategies as st

from throughtime.cells import GRU, LSTM, Elman, Leaky
from throughtime.data import Batch
from throughtime.gradients import Carry, FullBPTT, TruncatedBPTT
from throughtime.nn import Zeros


def language_model(cell, layers=2, reduction="mean"):
    return _past.language_model(cell, layers, reduction=reduction)


def found(method, model, batches: Sequence[Batch]) -> list[torch.Tensor]:
    """The summed gradients of some calls, and then the sum of their losses."""
    return calls(method, model, batches)[0]


def over(rows, cells=None, quick_cells=None):
    """Parametrize by every row and each of its cells, or those of these that it takes; with ``make test``, by the quick ones."""
    cases = [(row, cell) for row in rows for cell in row.cells if cells is None or cell in cells]
    quick = [(row, cell) for row, cell in cases if cell in (quick_cells or row.cells)]
    return pytest.mark.parametrize(("row", "cell"), first(quick, cases), ids=[f"{row}-{name(cell)}" for row, cell in cases])


@over(DEFINED, quick_cells=[*KINDS, Elman(), Leaky(0.3)])
def test_agrees_with_its_definition(row, cell):
    model, batch = language_model(cell, row.layers), ragged(text())
    assert_close(found(row.method, model, [batch]), row.definition(model, [batch]))


@over(DRAWN, quick_cells=[Elman()])
def test_its_mean_over_draws_is_the_exact_gradient(row, cell):
    """Along the exact gradient the mean is within 4.5 of its standard errors (Student's t, 39 degrees: false alarm 6e-5)."""
    model, batch = vector_model(cell, row.layers), vectors(6, 2)
    assert row.method.agrees == "in expectation"
    exact = torch.cat([g.flatten() for g in whole_past(model, [batch])])
    many = copies(batch, row.copies)
    draws = [torch.cat([g.flatten() for g in found(replace(row.method, seed=seed), model, [many])]) for seed in range(row.draws)]
    along = torch.stack(draws) @ exact / exact.square().sum() / row.copies
    error = along.std() / row.draws**0.5
    assert error < 0.05, "a mean as uncertain as this one could not be told from a wrong one"
    assert abs(along.mean() - 1) < 4.5 * error


@pytest.mark.parametrize("row", [*DEFINED, *DRAWN], ids=str)
def test_claims_are_of_the_four_kinds_and_calls_repeat(row):
    """One step of one stream, too, carried on; the same call gives the same bits."""
    assert row.method.agrees in ("exactly", "within a window", "in expectation", "approximately")
    model, batch = language_model(row.cells[-1], row.layers), text(3, 1)
    steps = [batch.steps(t, t + 1) for t in range(3)]
    one, same = found(row.method, model, steps), found(row.method, model, steps)
    assert all(map(torch.equal, one, same))
    assert all(torch.isfinite(g).all() for g in one)


@given(k1=st.integers(1, 13), more=st.integers(0, 13), T=st.integers(1, 13), B=st.integers(1, 3), layers=st.integers(1, 3))
def test_truncation_of_any_size(k1, more, T, B, layers):
    model, batch = language_model(GRU(), layers), text(T, B)
    assert_close(found(TruncatedBPTT(k1, k1 + more), model, [batch]), Window(k1, k1 + more)(model, [batch]))


@over([row for row in DEFINED if row.window], KINDS[1:3], [LSTM()])
def test_the_carry_makes_many_calls_one(row, cell):
    """Stretches that are multiples of k1, the parameters unchanged: the sum of the calls is one long call."""
    (k1, _), T = row.window, 30
    model, batch = language_model(cell, reduction="sum"), text(T)
    got = found(row.method, model, cut(batch, (0, k1, 2 * k1, 5 * k1, T)))
    assert_close(got, row.definition(model, [batch]), rounding(path(T, 17, layers=2)))


# windows of the whole and of the stretches 0–5–15–20 coincide
@over([row for row in DEFINED if (row.window or (1, 1))[0] in (1, 5)], (Elman(), LSTM()), [LSTM()])
def test_no_gradient_crosses_into_a_fresh_stream(row, cell):
    model, batch = language_model(cell, row.layers, reduction="sum"), text(20)
    fresh = {5: torch.tensor([False, True, False, False]), 15: torch.tensor([False, True, True, False])}
    stretches = cut(batch, (0, 5, 15, 20), fresh)
    assert_close(found(row.method, model, stretches), row.definition(model, stretches))


@pytest.mark.parametrize("row", DEFINED, ids=str)
def test_real_vectors_and_a_loss_at_one_step_only(row):
    model = vector_model(row.cells[0], row.layers, initial=Zeros())
    weights = torch.zeros(T, B)
    weights[-1] = 1
    batch = vectors(weights=weights)
    assert_close(found(row.method, model, [batch]), row.definition(model, [batch]))


def test_the_mean_is_over_what_counts():
    batch = Batch(torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2, dtype=torch.long))
    masked = replace(batch, mask=torch.tensor([[True, False], [True, True]]), weights=torch.tensor([[2.0, 1.0], [0.0, 0.5]]))
    model = language_model(GRU())
    assert (batch.counted(), masked.counted(), model.scale(masked)) == (4, 2, 0.5)
    loss, _ = FullBPTT().accumulate(model, masked)
    hs, _ = model.recurrence(model.embed(batch))
    per_step = model.head.losses(hs, batch.targets)
    assert_close([loss], [(2 * per_step[0, 0] + 0.5 * per_step[1, 1]) / 2])


def test_a_batch_without_a_loss_adds_nothing():
    model, batch = language_model(GRU()), text(mask=torch.zeros(T, B, dtype=torch.bool))
    assert not any(g.any() for g in found(TruncatedBPTT(4), model, [batch]))


def test_gradients_are_added_to_those_that_stand():
    model, batch = language_model(GRU()), text()
    *once, _ = found(FullBPTT(), model, [batch])
    FullBPTT().accumulate(model, batch)
    assert_close([p.grad for p in model.parameters()], [2 * g for g in once])


def test_clip_adjoint_reaches_the_recursion_and_bounds_the_initial_state():
    model, batch = language_model(GRU(), 1, reduction="sum"), text()
    free = found(FullBPTT(), model, [batch])
    clipped = found(FullBPTT(clip_adjoint=1e-3), model, [batch])
    windowed = found(TruncatedBPTT(T, clip_adjoint=1e-3), model, [batch])
    assert_close(windowed, clipped)
    names = [name for name, _ in model.named_parameters()]
    at = names.index("recurrence.weight_hh_l0")
    assert clipped[at].norm() < 0.1 * free[at].norm()
    head = names.index("head.weight")
    assert_close([clipped[head]], [free[head]])


def test_the_carry_is_detached_and_only_the_state_where_that_is_enough():
    model = language_model(GRU())
    for method, kept in ((FullBPTT(), False), (TruncatedBPTT(4), False), (TruncatedBPTT(3, 5), True)):
        _, carry = method.accumulate(model, text())
        assert bool(carry.kept) == kept
        assert not any(t.requires_grad for t in (*carry.state, *carry.kept.values()))
        assert [tuple(s.shape) for s in carry.state] == [(2, B, 5)]


def test_bad_carries_and_sizes_get_a_sentence():
    model, batch = language_model(GRU()), text()
    _, carry = TruncatedBPTT(3, 5).accumulate(model, batch)
    with pytest.raises(ValueError, match=r"made by TruncatedBPTT\(k1=3, k2=5.*is given to FullBPTT.*Pass carry.state"):
        FullBPTT().accumulate(model, batch, carry)
    for given_carry in (carry, carry.state, Carry(carry.state)):
        with pytest.raises(ValueError, match=r"batch has B = 2.*Pass model.initial_state\(2\)"):
            TruncatedBPTT(3, 5).accumulate(model, text(B=2, fresh=torch.tensor([True, False])), given_carry)
    with pytest.raises(ValueError, match="k2 is 2 and k1 is 3"):
        TruncatedBPTT(3, 2)
    with pytest.raises(ValueError, match="k1 is 0; expected an integer from 1"):
        TruncatedBPTT(0)
    with pytest.raises(ValueError, match="clip_adjoint is -1"):
        FullBPTT(clip_adjoint=-1.0)
