"""Every gradient method against its own definition, by brute force with torch's autograd."""

import itertools
from dataclasses import replace

import pytest
import torch
from _tables import CELLS, name
from _truth import assert_close
from hypothesis import given, strategies as st

from throughtime.cells import GRU, LSTM, Elman
from throughtime.data import Batch
from throughtime.gradients import (
    RTRL,
    AbstractGradient,
    AdaptiveBPTT,
    BlockRTRL,
    Carry,
    CheckpointedBPTT,
    FullBPTT,
    RandomTruncatedBPTT,
    SlidingBPTT,
    SnAp,
    TruncatedBPTT,
)
from throughtime.models import Head, LanguageModel, SequenceModel, SquaredError, Vectors
from throughtime.models._losses import Linear
from throughtime.nn import Learnable, Recurrence, Zeros

# method × (k1, k2) of its definition; None: the whole past
METHODS = [
    (FullBPTT(), None),
    (TruncatedBPTT(4), (4, 4)),
    (TruncatedBPTT(3, 5), (3, 5)),
    (TruncatedBPTT(1, 6), (1, 6)),
    (TruncatedBPTT(4, 4), (4, 4)),
    (TruncatedBPTT(5), (5, 5)),
    (TruncatedBPTT(5, 7), (5, 7)),
    (TruncatedBPTT(5, 100), (5, 100)),
    (CheckpointedBPTT(), None),
    (CheckpointedBPTT(every=5), None),
    (CheckpointedBPTT(snapshots=2, unit=1), None),
    (CheckpointedBPTT(budget="12kB"), None),
    (SlidingBPTT(6), (1, 6)),
    (SlidingBPTT(14), (1, 14)),
    (AdaptiveBPTT(1e-12, 5), (5, 9)),  # a tolerance that no window meets: the largest, every time
]
# methods with a seed: their mean over draws × how many draws
DRAWN = [(RandomTruncatedBPTT(3.0), 40)]
V, I, T, B = 7, 3, 12, 4


def language_model(cell=GRU(), layers=2, **options):  # noqa: B008
    return LanguageModel(V, cell=cell, hidden_size=5, num_layers=layers, embedding_size=I, initial=Learnable(), **options)


def text_batch(T=T, B=B, **options) -> Batch:
    ids = torch.randint(V, (T + 1, B))
    return Batch(ids[:-1], ids[1:], **options)


def ragged(batch: Batch) -> Batch:
    """The same batch with padding and uneven weights."""
    return replace(batch, mask=torch.rand(batch.T, batch.B) < 0.8, weights=torch.rand(batch.T, batch.B).round(decimals=1))


def gradients(method: AbstractGradient, model, batches, carry=None):
    """The summed gradients of some calls, and their losses."""
    model.zero_grad()
    losses = []
    for batch in batches:
        loss, carry = method.accumulate(model, batch, carry)
        losses.append(loss)
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()], losses


def literal(model, batch: Batch, window: tuple[int, int] | None, starts: torch.Tensor | None = None):
    """The definition: each window run again from its own cut, everything by autograd of torch's own loop.

    ``starts`` (T, B): where streams begin anew. None: at step 0 alone.
    """
    if starts is None:
        starts = torch.zeros(batch.T, batch.B, dtype=torch.bool)
        starts[0] = True
    k1, k2 = window or (batch.T, batch.T)
    states = [tuple(s.detach() for s in model.initial_state(batch.B))]
    with torch.no_grad():
        for t in range(batch.T):
            states.append(advance(model, batch, t, states[-1], starts)[1])
    model.zero_grad()
    total = torch.zeros(())
    for start in range(0, batch.T, k1):
        stop = min(start + k1, batch.T)
        cut = max(0, stop - k2)
        state, loss = states[cut], torch.zeros(())
        for t in range(cut, stop):
            h, state = advance(model, batch, t, state, starts)
            if t >= start:
                loss = loss + model.losses(h, batch.steps(t, t + 1)).sum() * model.scale(batch)
        loss.backward()
        total = total + loss.detach()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()], total


def advance(model, batch, t, state, starts):
    """One step of every layer, spelled out with the cell's forward equations alone."""
    new = model.initial_state(batch.B)
    state = tuple(torch.where(starts[t].view(1, -1, 1), a, b) for a, b in zip(new, state, strict=True))
    below = model.embed(batch.steps(t, t + 1))[0]
    leaving = []
    for layer in range(model.recurrence.num_layers):
        p = model.recurrence.parameters_of(layer)
        s = tuple(part[layer] for part in state)
        wx = torch.einsum("bi,ghi->bgh", below, p.W) + p.b_ih
        rh = torch.einsum("bi,ghi->bgh", s[0], p.R) + p.b_hh
        leaving.append(model.recurrence.cell.step(wx, rh, s))
        below = leaving[-1][0]
    return below.unsqueeze(0), tuple(torch.stack(parts) for parts in zip(*leaving, strict=True))


# exact over the whole past, of which one batch is the first part (more in tests/gradients/test_rtrl.py)
FORWARD = [(RTRL(), None), (BlockRTRL(5), None), (SnAp(100), None)]


@pytest.mark.parametrize("method", [*METHODS, *FORWARD], ids=lambda m: str(m[0]))
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_agrees_with_its_definition(cell, method):
    method, window = method
    model, batch = language_model(cell), ragged(text_batch())
    got, losses = gradients(method, model, [batch])
    wanted, loss = literal(model, batch, window)
    assert_close([*got, losses[0]], [*wanted, loss])


@pytest.mark.parametrize(("method", "draws"), DRAWN, ids=lambda m: str(m))
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_its_mean_over_draws_is_the_exact_gradient(cell, method, draws):
    """Along the exact gradient the mean is within 4.5 of its standard errors (Student's t, 39 degrees: false alarm 6e-5)."""
    model, batch = language_model(cell), ragged(text_batch())
    assert method.agrees == "in expectation"
    exact = torch.cat([g.flatten() for g in literal(model, batch, None)[0]])
    found = [torch.cat([g.flatten() for g in gradients(replace(method, seed=seed), model, [batch])[0]]) for seed in range(draws)]
    along = torch.stack(found) @ exact / exact.square().sum()
    assert abs(along.mean() - 1) < 4.5 * along.std() / draws**0.5


@pytest.mark.parametrize("method", [m for m, _ in METHODS + DRAWN], ids=str)
def test_claims_are_of_the_four_kinds_and_calls_repeat(method):
    """One step of one stream, too, carried on; the same call gives the same bits."""
    assert method.agrees in ("exactly", "within a window", "in expectation", "approximately")
    model, batch = language_model(LSTM()), text_batch(3, 1)
    steps = [batch.steps(t, t + 1) for t in range(3)]
    (one, losses), (same, _) = gradients(method, model, steps), gradients(method, model, steps)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert all(torch.isfinite(g).all() for g in (*one, *losses))


@given(k1=st.integers(1, 13), more=st.integers(0, 13), T=st.integers(1, 13), B=st.integers(1, 3), layers=st.integers(1, 3))
def test_truncation_of_any_size(k1, more, T, B, layers):
    model, batch = language_model(layers=layers), text_batch(T, B)
    got, losses = gradients(TruncatedBPTT(k1, k1 + more), model, [batch])
    wanted, loss = literal(model, batch, (k1, k1 + more))
    assert_close([*got, losses[0]], [*wanted, loss])


@pytest.mark.parametrize("method", [m for m in METHODS if m[1] is not None], ids=lambda m: str(m[0]))
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_the_carry_makes_many_calls_one(cell, method):
    """Stretches that are multiples of k1, the parameters unchanged: the sum of the calls is one long call."""
    (method, (k1, k2)), T = method, 60
    model, batch = language_model(cell, reduction="sum"), text_batch(T)
    cuts = [0, k1, 2 * k1, 5 * k1, T]
    got, losses = gradients(method, model, [batch.steps(a, b) for a, b in itertools.pairwise(cuts)])
    wanted, (loss,) = gradients(method, model, [batch])
    assert_close([*got, sum(losses)], [*wanted, loss])
    wanted, loss = literal(model, batch, (k1, k2))
    assert_close([*got, sum(losses)], [*wanted, loss])


# windows of the whole and of the stretches 0–5–15–20 coincide
@pytest.mark.parametrize("method", [m for m in METHODS if m[1] is None or m[1][0] in (1, 5)], ids=lambda m: str(m[0]))
@pytest.mark.parametrize("cell", [Elman(), LSTM()], ids=str)
def test_no_gradient_crosses_into_a_fresh_stream(cell, method):
    method, window = method
    model, batch = language_model(cell, reduction="sum"), text_batch(20)
    starts = torch.zeros(20, B, dtype=torch.bool)
    starts[0], starts[5, 1], starts[15] = True, True, torch.tensor([False, True, True, False])
    stretches = [replace(batch.steps(a, b), fresh=starts[a]) for a, b in ((0, 5), (5, 15), (15, 20))]
    got, losses = gradients(method, model, stretches)
    if window is None:
        calls, state = [], None  # each call is its own whole past
        for stretch in stretches:
            grads, loss, state = whole_past(model, stretch, state)
            calls.append([*grads, loss])
        wanted = [sum(parts) for parts in zip(*calls, strict=True)]
    else:
        grads, loss = literal(model, batch, window, starts)
        wanted = [*grads, loss]
    assert_close([*got, sum(losses)], wanted)


def whole_past(model, batch, state):
    """FullBPTT of one stretch by autograd: the carried state is a constant, fresh streams start from the initial one."""
    model.zero_grad()
    starts = torch.zeros(batch.T, batch.B, dtype=torch.bool)
    starts[0] = True if state is None else batch.fresh
    state = tuple(s.detach() for s in (model.initial_state(batch.B) if state is None else state))
    loss = torch.zeros(())
    for t in range(batch.T):
        h, state = advance(model, batch, t, state, starts)
        loss = loss + model.losses(h, batch.steps(t, t + 1)).sum() * model.scale(batch)
    loss.backward()
    return [p.grad.clone() for p in model.parameters()], loss.detach(), state


@pytest.mark.parametrize("method", METHODS, ids=lambda m: str(m[0]))
def test_real_vectors_and_a_loss_at_one_step_only(method):
    method, window = method
    model = SequenceModel(
        Vectors(I), Recurrence(Elman(), I, 5, initial=Zeros()), Head(5, 2, output=Linear(), loss=SquaredError()), reduction="sum"
    )
    weights = torch.zeros(T, B)
    weights[-1] = 1
    batch = Batch(torch.randn(T, B, I), torch.randn(T, B, 2), weights=weights)
    got, losses = gradients(method, model, [batch])
    wanted, loss = literal(model, batch, window)
    assert_close([*got, losses[0]], [*wanted, loss])


def test_the_mean_is_over_what_counts():
    batch = Batch(torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2, dtype=torch.long))
    masked = replace(batch, mask=torch.tensor([[True, False], [True, True]]), weights=torch.tensor([[2.0, 1.0], [0.0, 0.5]]))
    model = language_model()
    assert (batch.counted(), masked.counted(), model.scale(masked)) == (4, 2, 0.5)
    loss, _ = FullBPTT().accumulate(model, masked)
    hs, _ = model.recurrence(model.embed(batch))
    per_step = model.head.losses(hs, batch.targets)
    assert_close([loss], [(2 * per_step[0, 0] + 0.5 * per_step[1, 1]) / 2])


def test_a_batch_without_a_loss_adds_nothing():
    model, batch = language_model(), text_batch(mask=torch.zeros(T, B, dtype=torch.bool))
    got, losses = gradients(TruncatedBPTT(4), model, [batch])
    assert float(losses[0]) == 0
    assert not any(g.any() for g in got)


def test_gradients_are_added_to_those_that_stand():
    model, batch = language_model(), text_batch()
    once, _ = gradients(FullBPTT(), model, [batch])
    FullBPTT().accumulate(model, batch)
    assert_close([p.grad for p in model.parameters()], [2 * g for g in once])


def test_clip_adjoint_reaches_the_recursion_and_bounds_the_initial_state():
    model, batch = language_model(layers=1, reduction="sum"), text_batch()
    free, _ = gradients(FullBPTT(), model, [batch])
    clipped, _ = gradients(FullBPTT(clip_adjoint=1e-3), model, [batch])
    windowed, _ = gradients(TruncatedBPTT(T, clip_adjoint=1e-3), model, [batch])
    assert_close(windowed, clipped)
    names = [name for name, _ in model.named_parameters()]
    at = names.index("recurrence.weight_hh_l0")
    assert clipped[at].norm() < 0.1 * free[at].norm()
    head = names.index("head.weight")
    assert_close([clipped[head]], [free[head]])


def test_the_carry_is_detached_and_only_the_state_where_that_is_enough():
    model = language_model()
    for method, kept in ((FullBPTT(), False), (TruncatedBPTT(4), False), (TruncatedBPTT(3, 5), True)):
        _, carry = method.accumulate(model, text_batch())
        assert bool(carry.kept) == kept
        assert not any(t.requires_grad for t in (*carry.state, *carry.kept.values()))
        assert [tuple(s.shape) for s in carry.state] == [(2, B, 5)]


def test_bad_carries_and_sizes_get_a_sentence():
    model, batch = language_model(), text_batch()
    _, carry = TruncatedBPTT(3, 5).accumulate(model, batch)
    with pytest.raises(ValueError, match=r"made by TruncatedBPTT\(k1=3, k2=5.*is given to FullBPTT.*Pass carry.state"):
        FullBPTT().accumulate(model, batch, carry)
    for given_carry in (carry, carry.state, Carry(carry.state)):
        with pytest.raises(ValueError, match=r"batch has B = 2.*Pass model.initial_state\(2\)"):
            TruncatedBPTT(3, 5).accumulate(model, text_batch(B=2, fresh=torch.tensor([True, False])), given_carry)
    with pytest.raises(ValueError, match="k2 is 2 and k1 is 3"):
        TruncatedBPTT(3, 2)
    with pytest.raises(ValueError, match="k1 is 0; expected an integer from 1"):
        TruncatedBPTT(0)
    with pytest.raises(ValueError, match="clip_adjoint is -1"):
        FullBPTT(clip_adjoint=-1.0)
