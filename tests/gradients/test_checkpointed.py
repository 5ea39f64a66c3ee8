"""Checkpointed backpropagation: FullBPTT's gradient, in the memory and with the extra steps that its plan has said."""

import itertools
import weakref
from dataclasses import replace

import pytest
import torch
from _tables import Coupled, first
from _truth import assert_close
from hypothesis import given, settings, strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from throughtime import nn
from throughtime.cells import GRU, LSTM, Elman
from throughtime.data import Batch
from throughtime.gradients import Budgeted, CheckpointedBPTT, FullBPTT, TruncatedBPTT, _checkpointed, starting_state
from throughtime.gradients.checkpointing._plan import parse_bytes
from throughtime.kernels import set_kernels
from throughtime.models import Head, LanguageModel, Linear, OneHot, SequenceModel, SquaredError, Vectors

V = 7
METHODS = [
    CheckpointedBPTT(),
    CheckpointedBPTT(every=1),
    CheckpointedBPTT(every=4),
    CheckpointedBPTT(every=100),
    CheckpointedBPTT(snapshots=1, unit=2),
    CheckpointedBPTT(snapshots=3, unit=1),
    CheckpointedBPTT(snapshots=3),
    CheckpointedBPTT(budget="9kB"),
    CheckpointedBPTT(budget="30kB"),
]
KINDS = [METHODS[2], METHODS[5], METHODS[7]]  # every so many steps, so many snapshots, so many bytes


def language_model(cell=GRU(), layers=2, initial=nn.Learnable(), **options):  # noqa: B008
    return LanguageModel(V, cell=cell, hidden_size=5, num_layers=layers, embedding_size=3, initial=initial, **options)


def text_batch(T=17, B=4, **options) -> Batch:
    ids = torch.randint(V, (T + 1, B))
    return Batch(ids[:-1], ids[1:], mask=torch.rand(T, B) < 0.8, weights=torch.rand(T, B), **options)


def found(model, run, seed=0):
    """Every gradient, the loss and the state that is carried on, from a seed."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss, carry = run()
    return [*(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()), loss, *carry.state]


def agrees_with_full(method, model, batch, carry=None):
    full = FullBPTT(method.clip_adjoint)
    wanted = found(model, lambda: full.accumulate(model, batch, carry))
    assert_close(found(model, lambda: method.accumulate(model, batch, carry)), wanted)


@given(T=st.integers(1, 30), B=st.integers(1, 9), layers=st.integers(1, 3), method=st.sampled_from(METHODS))
def test_the_same_as_full_at_any_size(T, B, layers, method):
    model = language_model(layers=layers)
    if method.budget is None:
        agrees_with_full(method, model, text_batch(T, B))
    else:
        agrees_with_full(CheckpointedBPTT(budget=6000 * B * layers), model, text_batch(T, B))


@pytest.mark.parametrize("method", first(KINDS, METHODS), ids=str)
def test_the_same_as_full_from_a_carry_with_fresh_streams_and_a_clip(method):
    model = language_model(LSTM())
    carry = FullBPTT().accumulate(model, text_batch()).carry
    batch = text_batch(fresh=torch.tensor([True, False, False, True]))
    agrees_with_full(method, model, batch, carry)
    agrees_with_full(replace(method, clip_adjoint=1e-4), model, batch, carry.state)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_random_initial_state_is_drawn_once(method):
    agrees_with_full(method, language_model(initial=nn.Random()), text_batch())


@pytest.mark.parametrize("method", first(KINDS, METHODS), ids=str)
@pytest.mark.parametrize("vectors", [False, True], ids=["indices", "vectors"])
def test_other_stations_and_a_cell_of_ones_own(vectors, method):
    station, inputs = (Vectors(3), torch.randn(17, 4, 3)) if vectors else (OneHot(V), torch.randint(V, (17, 4)))
    model = SequenceModel(station, nn.Recurrence(Coupled(), station.size, 5), Head(5, 2, output=Linear(), loss=SquaredError()))
    agrees_with_full(method, model, Batch(inputs, torch.randn(17, 4, 2)))


@pytest.mark.parametrize("frozen", ["input", "recurrence", "head"])
@pytest.mark.parametrize("method", [CheckpointedBPTT(every=4), TruncatedBPTT(17)], ids=str)
def test_a_frozen_station_gets_nothing_and_harms_nothing(method, frozen):
    model, batch = language_model(initial=nn.Zeros()), text_batch()
    getattr(model, frozen).requires_grad_(False)
    agrees_with_full(method, model, batch) if isinstance(method, CheckpointedBPTT) else method.accumulate(model, batch)
    assert all(p.grad is None for p in getattr(model, frozen).parameters())


def unit_by_unit(model, batches, seed, carry=None):
    """The same units, each with its own seed, as one graph of torch's autograd: nothing is kept, nothing run again."""
    state, total = starting_state(model, carry, batches[0].fresh, batches[0].B), torch.zeros(())
    seed = seed if seed is not None else int(torch.randint(2**62, ()))
    for i, batch in enumerate(batches):
        with _checkpointed._seeded(seed + 2 * i, torch.device("cpu")):
            xs = model.embed(batch)
            hs, state = model.recurrence(xs, state if i == 0 else starting_state(model, state, batch.fresh, batch.B))
        with _checkpointed._seeded(seed + 2 * i + 1, torch.device("cpu")):
            total = total + model.losses(hs, batch).sum()
    loss = total * model.scale(*batches)
    loss.backward()
    return loss.detach(), _checkpointed.Carry(tuple(s.detach() for s in state))


@pytest.mark.parametrize("method", first(KINDS, METHODS), ids=str)
@pytest.mark.parametrize("cell", [Elman(), LSTM()], ids=str)
def test_dropout_falls_on_the_same_places_every_time_a_unit_is_run(cell, method):
    model, batch = language_model(cell, dropout=0.4), text_batch()
    unit = method.plan(batch.T, batch.B, model).unit
    pieces = [batch.steps(start, min(start + unit, batch.T)) for start in range(0, batch.T, unit)]
    wanted = found(model, lambda: unit_by_unit(model, pieces, None))
    got = found(model, lambda: method.accumulate(model, batch))
    assert_close(got, wanted)
    other = found(model, lambda: method.accumulate(model, batch), seed=1)
    assert not torch.allclose(other[0], got[0])


def test_chance_goes_on_from_the_same_place_whatever_the_plan():
    model, batch, after = language_model(dropout=0.4), text_batch(), []
    for method in METHODS:
        torch.manual_seed(0)
        method.accumulate(model, batch)
        after.append(float(torch.rand(())))
    assert len(set(after)) == 1


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(1, 16), max_size=9, unique=True), slots=st.integers(1, 4))
def test_a_stream_of_pieces_is_one_batch(cuts, slots):
    model, batch = language_model(), text_batch()
    edges = [0, *sorted(cuts), batch.T]
    carry = FullBPTT().accumulate(model, text_batch()).carry
    batch = replace(batch, fresh=torch.tensor([True, False, False, True]))
    wanted = found(model, lambda: FullBPTT().accumulate(model, batch, carry))
    stream = lambda: (batch.steps(a, b) for a, b in itertools.pairwise(edges))  # nobody knows its length
    got = found(model, lambda: CheckpointedBPTT(snapshots=slots).accumulate_stream(model, stream(), carry))
    assert_close(got, wanted)


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("initial", [nn.Learnable(), nn.Random()], ids=str)
def test_streams_that_start_anew_in_a_later_piece(slots, initial):
    model, batch = language_model(initial=initial, dropout=0.3), text_batch()
    pieces = [batch.steps(a, b) for a, b in itertools.pairwise([0, 3, 4, 9, 15, 17])]
    pieces[2] = replace(pieces[2], fresh=torch.tensor([True, False, True, False]))
    pieces[4] = replace(pieces[4], fresh=torch.tensor([False, False, True, False]))
    wanted = found(model, lambda: unit_by_unit(model, pieces, None))
    got = found(model, lambda: CheckpointedBPTT(snapshots=slots).accumulate_stream(model, iter(pieces)))
    assert_close(got, wanted)


# --- the plan


def counted_steps(monkeypatch, model, run):
    """How many steps the recurrence was run forward, and the most steps that any station was given at once."""
    from throughtime.nn import _trace

    seen, longest = [], [0]
    forward_stack, losses = _trace.forward_stack, type(model).losses

    def counting(cell, xs, layers, **options):
        seen.extend([len(xs)] * len(layers))
        return forward_stack(cell, xs, layers, **options)

    def watching(self, hs, batch):
        longest[0] = max(longest[0], len(hs))
        return losses(self, hs, batch)

    monkeypatch.setattr(_trace, "forward_stack", counting)
    monkeypatch.setattr(type(model), "losses", watching)
    run()
    return sum(seen) // model.recurrence.num_layers, max(longest[0], *seen)


@pytest.mark.parametrize("method", first(KINDS, METHODS), ids=str)
def test_the_plan_says_how_many_steps_it_costs(monkeypatch, method):
    model, batch = language_model(), text_batch(50)
    plan = method.plan(batch.T, batch.B, model)
    steps, longest = counted_steps(monkeypatch, model, lambda: method.accumulate(model, batch))
    assert steps == batch.T + plan.extra_steps
    assert longest == plan.unit


class Live(TorchDispatchMode):
    """The most bytes of tensors that were alive at once of those made inside; ``there`` were there before."""

    def __init__(self, there):
        super().__init__()
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in there}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self._see(tensor.untyped_storage())
        return out

    def _see(self, storage):
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())

    def _gone(self, key, size):
        self._known.discard(key)
        self.now -= size


def live_bytes(method, model, batch) -> int:
    """Of one call, beside the weights, the gradients that stand and the batch."""
    method.accumulate(model, batch)
    there = [t for p in model.parameters() for t in (p, p.grad)] + [t for t in vars(batch).values() if t is not None]
    with Live(there) as live:
        method.accumulate(model, batch)
    return live.peak


MEMORY_METHODS = [
    CheckpointedBPTT(every=200),
    CheckpointedBPTT(),
    CheckpointedBPTT(snapshots=4, unit=10),
    CheckpointedBPTT(budget="400kB"),
    CheckpointedBPTT(budget="1MB"),
]


def holds_what_it_says(method, model, batch):
    """Weights and their gradients are not counted: twice their size stands for what one backward makes of them at once."""
    plan, peak = method.plan(batch.T, batch.B, model), live_bytes(method, model, batch)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert peak <= plan.stored + 2 * weights + 20_000, f"{peak:,} live: {plan}"  # seeds' states, indices and scalars: 20 kB
    assert peak >= 0.4 * plan.stored, f"only {peak:,} live: {plan}"
    if method.budget:
        assert plan.stored <= parse_bytes(method.budget)


@pytest.mark.parametrize("method", MEMORY_METHODS, ids=str)
@pytest.mark.parametrize("dropout", first([0.3], [0.0, 0.3]))
@pytest.mark.parametrize(("cell", "layers"), first([(GRU(), 2)], [(Elman(), 1), (GRU(), 2), (LSTM(), 1)]), ids=str)
def test_no_more_is_held_than_the_plan_says(cell, layers, dropout, method):
    model = LanguageModel(V, cell=cell, hidden_size=8, num_layers=layers, dropout=dropout)
    holds_what_it_says(method, model, text_batch(200, 16))


@pytest.mark.parametrize("cell", [Elman(), LSTM()], ids=str)
def test_no_more_is_held_than_the_plan_says_by_the_plain_loop(cell):
    set_kernels("plain")
    try:
        model = LanguageModel(V, cell=cell, hidden_size=8)
        holds_what_it_says(CheckpointedBPTT(budget="200kB"), model, text_batch(24, 16))
    finally:
        set_kernels("fast")


def test_a_larger_budget_is_never_slower_and_none_is_exceeded():
    model = LanguageModel(V, cell=GRU(), hidden_size=8)
    least = CheckpointedBPTT(every=1).plan(200, 4, model).stored
    plans = [CheckpointedBPTT(budget=least * k).plan(200, 4, model) for k in (1, 2, 4, 8, 16, 64, 256, 1024)]
    assert all(plan.stored <= least * k for plan, k in zip(plans, (1, 2, 4, 8, 16, 64, 256, 1024), strict=True))
    cost = [plan.extra_steps * 4 + 256 * -(-200 // plan.unit) for plan in plans]
    assert cost == sorted(cost, reverse=True)
    assert (plans[-1].extra_steps, plans[-1].unit) == (0, 200)
    assert any(isinstance(plan.schedule, Budgeted) for plan in plans)


def test_the_plan_reads_as_a_sentence():
    model = LanguageModel(65, hidden_size=128).float()
    plan = CheckpointedBPTT(snapshots=5, unit=1).plan(100, 16, model)
    assert str(plan).startswith("100 steps in 100 segments of 1: at most 5 states and 1 recorded segment are held at once, ")
    assert str(plan).endswith(" in all; 316 extra forward steps (3.16 a step)")
    assert (plan.snapshots, plan.recorded, plan.extra_steps) == (5, 1, 316)
    assert "1 segment of 7: at most 1 state and 1 recorded segment" in str(CheckpointedBPTT(every=7).plan(7, 1, model))
    assert [CheckpointedBPTT().plan(T, 1, model).unit for T in (1, 2, 4, 5, 9, 10, 1000)] == [1, 2, 2, 3, 3, 4, 32]


@pytest.mark.parametrize(
    ("text", "size"),
    [(64_000_000, 64_000_000), ("64MB", 64_000_000), ("1.5 GiB", 3 * 2**29), ("2kb", 2000), ("8 KiB", 8192), ("10", 10), ("3b", 3)],
)
def test_budgets_are_read_with_their_units(text, size):
    assert parse_bytes(text) == size


def test_bad_choices_get_a_sentence():
    model, batch = language_model(), text_batch()
    with pytest.raises(ValueError, match=r"every and budget are given together; expected one of every, snapshots, budget\. Leave out"):
        CheckpointedBPTT(every=3, budget="1MB")
    with pytest.raises(ValueError, match="unit is given without snapshots"):
        CheckpointedBPTT(unit=3)
    for field in ("every", "snapshots"):
        with pytest.raises(ValueError, match=f"{field} is 0; expected an integer from 1"):
            CheckpointedBPTT(**{field: 0})
    for budget in ("64 parsecs", "-3MB", "0", 0, "MB", "0.1"):
        with pytest.raises(ValueError, match=r"budget is .*; expected bytes, as a number or with kB, MB, GB, KiB, MiB or GiB"):
            CheckpointedBPTT(budget=budget)
    with pytest.raises(ValueError, match="clip_adjoint is 0"):
        CheckpointedBPTT(clip_adjoint=0.0)
    with pytest.raises(ValueError, match="T is 0"):
        CheckpointedBPTT().plan(0, 1, model)
    _, carry = TruncatedBPTT(3, 5).accumulate(model, batch)
    with pytest.raises(ValueError, match=r"made by TruncatedBPTT.*is given to CheckpointedBPTT"):
        CheckpointedBPTT().accumulate(model, batch, carry)
    with pytest.raises(ValueError, match="batch has B = 2"):
        CheckpointedBPTT().accumulate(model, text_batch(B=2), carry.state)


def test_a_budget_under_one_state_says_the_least_that_would_do():
    model, batch = language_model(), text_batch()
    with pytest.raises(
        ValueError, match=r"the budget is 100 bytes; expected at least .* B = 4 .*Give budget=\d+ or more, or lower B"
    ) as caught:
        CheckpointedBPTT(budget=100).accumulate(model, batch)
    least = int(str(caught.value).split("budget=")[1].split()[0])
    with pytest.raises(ValueError, match="Give budget"):
        CheckpointedBPTT(budget=least - 1).accumulate(model, batch)
    plan = CheckpointedBPTT(budget=least).plan(batch.T, batch.B, model)
    assert plan.stored <= least
    assert plan.extra_steps == 17 * 16 // 2
    agrees_with_full(CheckpointedBPTT(budget=least), model, batch)


def test_bad_streams_get_a_sentence():
    model = language_model()
    with pytest.raises(ValueError, match="the stream has no batches"):
        CheckpointedBPTT(snapshots=2).accumulate_stream(model, [])
    with pytest.raises(ValueError, match=r"batch 1 of the stream has B = 2 and the first one 4"):
        CheckpointedBPTT(snapshots=2).accumulate_stream(model, [text_batch(), text_batch(B=2)])
    with pytest.raises(ValueError, match=r"is given a stream; expected CheckpointedBPTT\(snapshots=...\)"):
        CheckpointedBPTT(every=2).accumulate_stream(model, [text_batch()])
