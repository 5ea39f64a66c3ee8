"""RTRL and its block form: exact over the whole past of every stream, however it is cut into calls."""

from dataclasses import replace

import pytest
import torch
from _past import B, I, T, V, calls, cut, language_model, ragged, randomised, text, vector_model, vectors, whole_past
from _tables import CELLS, KINDS, first, name
from _truth import assert_close
from hypothesis import given, strategies as st

from throughtime import InputError
from throughtime.cells import GRU, LSTM, Elman, Identity
from throughtime.data import Batch
from throughtime.gradients import RTRL, UORO, BlockRTRL, Carry, FullBPTT, SnAp, TruncatedBPTT
from throughtime.models import AbstractInput, Embedding, Head, LanguageModel, OneHot, SequenceModel
from throughtime.nn import Learnable, Recurrence, Zeros

EXACT = [RTRL(), BlockRTRL(4), BlockRTRL(100)]


@pytest.mark.parametrize("method", first([RTRL(), BlockRTRL(3)], [RTRL(), BlockRTRL(3), SnAp(100)]), ids=str)
@pytest.mark.parametrize("layers", first([3], [1, 3]))
@pytest.mark.parametrize("cell", first(KINDS, CELLS), ids=name)
def test_many_calls_are_the_whole_past(cell, layers, method):
    model = language_model(cell, layers)
    starts = {5: torch.tensor([False, True, False, False]), 7: torch.tensor([False, False, True, False])}
    batches = [ragged(b) for b in cut(text(), fresh=starts)]
    got, _ = calls(method, model, batches)
    assert_close(got, whole_past(model, batches))


@pytest.mark.parametrize("method", EXACT, ids=str)
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=name)
def test_real_vectors_no_biases_and_a_loss_at_the_end(cell, method):
    model = vector_model(cell, 2, bias=False, initial=Zeros())
    weights = torch.zeros(T, B)
    weights[-1] = 1
    batches = cut(vectors(weights=weights))
    got, _ = calls(method, model, batches)
    assert_close(got, whole_past(model, batches))


@given(
    T=st.integers(1, 9), B=st.integers(1, 3), H=st.sampled_from([1, 2, 7, 8, 9]), layers=st.integers(1, 3), block=st.integers(1, 10),
    at=st.integers(0, 9),
)  # fmt: skip
def test_any_size(T, B, H, layers, block, at):
    model, batch = language_model(LSTM(), layers, H=H, reduction="mean"), text(T, B)
    batches = cut(batch, sorted({0, min(at, T), T}))
    wanted = whole_past(model, batches)
    for method in (RTRL(), BlockRTRL(block)):
        assert_close(calls(method, model, batches)[0], wanted)


@pytest.mark.parametrize("method", EXACT, ids=str)
def test_every_input_station(method):
    for station in (Embedding(V, I), OneHot(V)):
        recurrence = Recurrence(GRU(), station.size, 4, initial=Learnable())
        model = randomised(SequenceModel(station, recurrence, Head(4, V), reduction="sum"))
        distributions = Batch(torch.rand(T, B, V), text().targets)
        for batches in (cut(text()), cut(distributions)):
            assert_close(calls(method, model, batches)[0], whole_past(model, batches))


@pytest.mark.parametrize("method", EXACT, ids=str)
def test_rows_of_the_embedding_may_come_one_by_one(method):
    model = language_model(GRU())
    ids = torch.tensor([5, 2, 6, 0, 2, 1, 5, 3]).unsqueeze(1)
    batches = cut(Batch(ids[:-1], ids[1:]), range(8))
    got, carry = calls(method, model, batches)
    assert_close(got, whole_past(model, batches))
    assert carry.kept["rows"].tolist() == [0, 1, 2, 5, 6]
    assert carry.kept["influence.0"].shape[2] == 5 * I + 3 * 5 * (I + 1 + 5 + 1) + 5


@pytest.mark.parametrize("method", EXACT, ids=str)
def test_tied_and_frozen_parameters(method):
    model = language_model(GRU(), embedding_size=5, tied=True)
    batches = cut(text())
    assert_close(calls(method, model, batches)[0], whole_past(model, batches))
    model.recurrence.weight_hh_l0.requires_grad_(False)
    assert_close(calls(method, model, batches)[0], whole_past(model, batches))
    assert model.recurrence.weight_hh_l0.grad is None


@pytest.mark.parametrize("method", EXACT, ids=str)
def test_dropout_is_part_of_the_step(method):
    """In one call the masks are those of FullBPTT, drawn in the same order; a block draws its own."""
    for model, batch in (
        (language_model(LSTM(), 3, dropout=0.4), text()),
        (vector_model(GRU(), 2, dropout=0.5), vectors()),
        (vector_model(GRU(), 2, dropout=0.5, input_dropout=0.2), vectors()),
        (language_model(GRU(), dropout=0.5, input_dropout=0.0), text()),
        (language_model(GRU(), dropout=0.0, input_dropout=0.5), text()),
    ):
        cuts = (0, T) if method in (RTRL(), BlockRTRL(100)) else range(0, T + 1, method.block)
        torch.manual_seed(1)
        got, _ = calls(method, model, cut(batch, (0, T)))
        torch.manual_seed(1)
        wanted = whole_past_with_masks(model, cut(batch, cuts))
        assert_close(got, wanted)


def whole_past_with_masks(model, batches):
    """The whole past, each batch's masks drawn as FullBPTT draws them: one for a stretch of the stack at a time, then the head's."""
    model.zero_grad()
    state, total = model.initial_state(batches[0].B), torch.zeros(())
    for batch in batches:
        hs, state = model.recurrence(model.embed(batch), state)
        total = total + model.losses(hs, batch).sum()
    total.backward()
    return [*(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()), total.detach()]


@pytest.mark.parametrize("method", EXACT, ids=str)
def test_a_bare_state_is_a_constant(method):
    model, batch = language_model(LSTM(), 2), text()
    _, state = model.recurrence(model.embed(batch))
    state = tuple(s.detach() for s in state)
    got, _ = calls(method, model, cut(batch), state)
    assert_close(got, whole_past(model, cut(batch), state))
    wanted, _ = calls(FullBPTT(), model, [batch], Carry(state))
    assert_close(got, wanted)


@pytest.mark.parametrize("method", EXACT, ids=str)
def test_a_carry_may_be_used_again_and_is_made_of_plain_tensors(method):
    model = language_model(LSTM(), 2)
    first, second = cut(text(), (0, 5, T))
    _, carry = calls(method, model, [first])
    once, _ = calls(method, model, [second], carry)
    again, _ = calls(method, model, [second], carry)
    assert all(map(torch.equal, once, again))
    assert not any(t.requires_grad for t in (*carry.state, *carry.kept.values()))
    assert carry.made_by == repr(method)


def test_parameters_that_change_leave_the_influence_of_their_day():
    """With steps between calls M is Σ over steps at the parameters of that step: two calls, by hand, for a linear unit."""
    model = vector_model(Elman(activation=Identity()), H=1, bias=False, initial=Zeros())
    R = model.recurrence.weight_hh_l0
    batch = vectors(2, 1)
    _, carry = calls(RTRL(), model, [batch.steps(0, 1)])
    (h,) = carry.state
    R.data.mul_(2.0)
    weight = model.head.weight
    _, carry = calls(RTRL(), model, [batch.steps(1, 2)], carry)
    h_next = carry.state[0]
    error = 2 * ((h_next.view(1, 1) @ weight.T + model.head.bias) - batch.targets[1])
    into_x = R.item() * batch.inputs[0, 0] + batch.inputs[1, 0]  # ∂h_2/∂W = R ∂h_1/∂W + x_2, with R of the second day
    assert_close([model.recurrence.weight_ih_l0.grad], [(error @ weight).view(1, 1) * into_x])
    assert_close([R.grad], [(error @ weight) * h.view(1, 1)])


def test_a_network_too_large_is_refused_before_anything_is_allocated(monkeypatch):
    model = LanguageModel(5, cell=LSTM(), hidden_size=512, num_layers=2).float()
    batch = text(1, 1024)
    batch = replace(batch, inputs=batch.inputs % 5, targets=batch.targets % 5)
    for method in (RTRL(), BlockRTRL(3), SnAp(2)):
        with pytest.raises(InputError, match=r"(?s)influence matrix of .*takes about [\d,.]+ GiB.*SnAp\(1\), UORO\(seed\)"):
            method.accumulate(model, batch)


def test_bad_carries_stations_and_blocks_get_a_sentence():
    model, batch = language_model(GRU()), text()
    _, carry = RTRL().accumulate(model, batch)
    with pytest.raises(InputError, match=r"made by RTRL\(\), which keeps more than the state.*given to UORO\(seed=0\)"):
        UORO().accumulate(model, batch, carry)
    with pytest.raises(InputError, match=r"made by RTRL\(\).*given to BlockRTRL\(block=3\).*Pass carry.state"):
        BlockRTRL(3).accumulate(model, batch, carry)
    with pytest.raises(InputError, match=r"batch has B = 2.*Pass model.initial_state\(2\)"):
        RTRL().accumulate(model, text(B=2), carry)
    with pytest.raises(InputError, match="block is 0; expected an integer from 1"):
        BlockRTRL(0)
    with pytest.raises(InputError, match="order is 0; expected an integer from 1"):
        SnAp(0)

    class Odd(AbstractInput):
        size = I

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(I))

        def forward(self, inputs):
            return inputs * self.scale

    odd = SequenceModel(Odd(), Recurrence(GRU(), I, 4), Head(4, 2))
    with pytest.raises(NotImplementedError, match=r"not on the parameters behind Odd. FullBPTT\(\) and TruncatedBPTT\(k1, k2\) would do"):
        RTRL().accumulate(odd, vectors())


def test_the_state_goes_on_to_another_method_as_a_constant():
    model, (first, second) = language_model(GRU()), cut(text(), (0, 5, T))
    _, carry = RTRL().accumulate(model, first)
    got, _ = calls(TruncatedBPTT(T), model, [second], carry.state)
    wanted, _ = calls(RTRL(), model, [second], carry.state)
    assert_close(got, wanted)
