"""The gradient by lag and the adjoint map against every path (t, k) on its own, by torch's autograd, for every cell."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from _paths import paths
from _tables import CELLS, KINDS, first, name
from _truth import assert_close

import throughtime as tt
from throughtime.cells import GRU, LSTM, Elman
from throughtime.data import Batch
from throughtime.flow.measure import QUANTILES
from throughtime.gradients import FullBPTT, TruncatedBPTT
from throughtime.models import Embedding, Head, LanguageModel, OneHot, SequenceModel, SquaredError, Vectors
from throughtime.models._losses import Linear
from throughtime.nn import Learnable, Recurrence, Rows

V, I, H, T, B = 5, 3, 4, 5, 3


def language_model(cell, layers=2, **options):
    model = LanguageModel(V, cell=cell, hidden_size=H, num_layers=layers, embedding_size=I, initial=Learnable(), **options)
    for p in model.parameters():
        p.data.normal_(0, 0.6)
    return model


def text(**options) -> Batch:
    ids = torch.randint(V, (T + 1, B))
    return Batch(ids[:-1], ids[1:], **options)


def ragged(batch: Batch) -> Batch:
    mask = torch.rand(batch.T, batch.B) < 0.7
    mask[-1, :2], mask[1] = True, False  # a loss at the last step, none at all at step 1
    return replace(batch, mask=mask, weights=torch.rand(batch.T, batch.B) + 0.1)


def measured(model, batch, **options):
    return tt.gradient_flow(model, batch, jacobians=None, gates=False, **options)


def mean_map(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """(T, K) mean over the streams with a loss at t; NaN where there is none."""
    values = values.where(counted.unsqueeze(1), torch.nan)
    return values.nanmean(2)


def same_map(got, wanted):
    """Equal where there is a number, and NaN at the same places."""
    assert torch.equal(got.isnan(), wanted.isnan())
    assert not got.isnan().all()
    assert_close([got.nan_to_num()], [wanted.nan_to_num()])


def check_against_paths(model, batch, state=None):
    """Every number of the map and every tensor of every lag. 1e-12: some hundred roundings of 1e-16 in either computation."""
    names = [n for n, _ in model.named_parameters()]
    flow, truth = measured(model, batch, tensors=names, carry=state, stream=1), paths(model, batch, state)
    counted = torch.ones(batch.T, batch.B, dtype=torch.bool) if batch.mask is None else batch.mask
    counted = counted if batch.weights is None else counted & (batch.weights != 0)
    last = int(counted.any(1).nonzero()[-1])
    K = last + 1
    assert flow.max_lag == last
    for n in names:
        assert_close([flow.lags.tensors[n]], [truth.parts[n][:K]])
        assert_close([flow.lags.norms[n]], [truth.parts[n][:K].flatten(1).norm(dim=1)])
    assert_close([flow.lags.total], [torch.cat([p[:K].flatten(1) for p in truth.parts.values()], 1).norm(dim=1)])
    assert flow.lags.error < 1e-13
    A = flow.adjoint
    same_map(A.joint, mean_map(truth.joint, counted)[:, :K])
    for ell in range(model.recurrence.num_layers):
        same_map(A.layers[ell], mean_map(truth.layers[ell], counted)[:, :K])
    same_map(A.inputs, mean_map(truth.inputs, counted)[:, :K])
    same_map(A.stream_joint, truth.joint[:, :K, 1].where(counted[:, 1:2], torch.nan))
    same_map(A.stream_inputs, truth.inputs[:, :K, 1].where(counted[:, 1:2], torch.nan))
    same_map(A.border, truth.border.where(counted, torch.nan).nanmean(1))
    for k in range(K):
        own = truth.joint[k:, k][counted[k:]]
        assert float(A.counts[k]) == len(own)
        assert_close([A.profile[k]], [own.mean()])
        assert_close([A.quantiles[:, k]], [torch.tensor(np.quantile(own.numpy(), QUANTILES))])
        assert_close([A.input_profile[k]], [truth.inputs[k:, k][counted[k:]].mean()])
        assert_close([A.layer_profiles[:, k]], [truth.layers[:, k:, k][:, counted[k:]].mean(1)])
    return flow


@pytest.mark.parametrize("layers", first([2], [1, 2]))
@pytest.mark.parametrize("cell", first(KINDS, CELLS), ids=name)
def test_every_lag_is_its_own_path(cell, layers):
    check_against_paths(language_model(cell, layers), ragged(text()))


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (7, 1, 9, 8), (2, 8, 1, 9)], ids=str)
@pytest.mark.parametrize("cell", first([LSTM()], [Elman(), GRU(), LSTM()]), ids=str)
def test_awkward_sizes(cell, sizes):
    t, b, i, h = sizes
    model = SequenceModel(Vectors(i), Recurrence(cell, i, h, bias=False), Head(h, 2, output=Linear(), loss=SquaredError()), reduction="sum")
    batch = Batch(torch.randn(t, max(b, 2), i), torch.randn(t, max(b, 2), 2))
    check_against_paths(model, batch)


@pytest.mark.parametrize("station", [*first([], [OneHot(V)]), Embedding(V, I)], ids=lambda s: type(s).__name__)
def test_other_inputs(station):
    model = SequenceModel(station, Recurrence(LSTM(), station.size, H, num_layers=2), Head(H, V))
    check_against_paths(model.double(), text())
    distributions = torch.rand(T, B, V).softmax(-1)
    check_against_paths(model, replace(text(), inputs=distributions))


def test_a_tied_table_is_head_and_input_at_once():
    model = LanguageModel(V, cell=GRU(), hidden_size=H, tied=True)
    assert "head.weight" not in dict(model.named_parameters())
    check_against_paths(model, text())


def test_a_small_table_of_many_symbols_agrees_with_the_full_gradient():
    """Where the full gradient multiplies the table before it is looked up."""
    model, ids = LanguageModel(3, cell=GRU(), hidden_size=H), torch.randint(3, (T + 1, B))
    assert isinstance(model.enter(Batch(ids[:-1], ids[1:])), Rows)
    check_against_paths(model, Batch(ids[:-1], ids[1:]))


@pytest.mark.parametrize("cell", first([LSTM()], [Elman(), LSTM()]), ids=str)
def test_a_carried_state_is_where_the_gradient_stops(cell):
    model = language_model(cell)
    batch = text(fresh=torch.tensor([False, True, False]))
    state = tuple(torch.randn(2, B, H) for _ in range(cell.states))
    flow = check_against_paths(model, batch, state)
    assert flow.carried
    assert float(flow.lags.norms["recurrence.initial"].sum()) > 0  # of the fresh stream
    alone = measured(model, replace(batch, fresh=None), carry=state)
    assert float(alone.lags.norms["recurrence.initial"].sum()) == 0


def test_losses_in_the_middle_only():
    weights = torch.zeros(T, B)
    weights[2:4] = torch.rand(2, B) + 0.5
    flow = check_against_paths(language_model(GRU()), text(weights=weights))
    assert flow.max_lag == 3
    assert flow.losses.isnan()[[0, 1, 4]].all()


def test_the_head_is_lag_0():
    flow = measured(language_model(GRU()), text())
    assert flow.lags.norms["head.weight"][0] > 0
    assert not flow.lags.norms["head.weight"][1:].any()


@pytest.mark.parametrize("cell", first([Elman(torch.sin), LSTM()], [Elman(), Elman(torch.sin), GRU(), LSTM()]), ids=name)
@pytest.mark.parametrize("max_lag", [0, 1, 3, T - 2])
def test_what_lies_beyond_is_found_in_one_piece(cell, max_lag):
    model, batch, K = language_model(cell), ragged(text()), max_lag + 1
    names = [n for n, _ in model.named_parameters()]
    whole = measured(model, batch, tensors=names)
    near = measured(model, batch, max_lag=max_lag, tensors=names)
    assert near.lags.error < 1e-13
    for n in names:
        assert_close([near.lags.tensors[n]], [whole.lags.tensors[n][:K]])
        assert_close([torch.tensor(near.lags.beyond[n])], [whole.lags.tensors[n][K:].sum(0).norm()])
    same_map(near.adjoint.joint, whole.adjoint.joint[:, :K])
    assert_close([near.bias.bias, near.bias.cosine], [whole.bias.bias[:K], whole.bias.cosine[:K]])
    assert not any(whole.lags.beyond.values())


def test_what_lies_beyond_losses_in_the_middle():
    weights = torch.zeros(T, B)
    weights[3:5] = 1
    for max_lag in range(5):
        assert measured(language_model(LSTM()), text(weights=weights), max_lag=max_lag).lags.error < 1e-13


@pytest.mark.parametrize("cell", first([LSTM()], [Elman(), GRU(), LSTM()]), ids=str)
def test_the_bias_of_every_window_is_that_of_truncation(cell):
    model, batch = language_model(cell), ragged(text())
    flow = measured(model, batch)
    through_time = [n for n, _ in model.named_parameters() if not n.startswith("head")]
    assert sorted(flow.bias.parameters) == sorted(through_time)
    g = gradient(model, FullBPTT(), batch)
    for K in range(1, T + 1):
        g_K = gradient(model, TruncatedBPTT(1, K), batch)
        for names, bias, cosine in (
            (through_time, flow.bias.bias, flow.bias.cosine),
            (list(g), flow.bias.whole_bias, flow.bias.whole_cosine),
        ):
            a, b = (torch.cat([d[n].flatten() for n in names]) for d in (g_K, g))
            assert abs(float(bias[K - 1]) - float((a - b).norm() / b.norm())) < 1e-13
            assert abs(float(cosine[K - 1]) - float(a @ b / (a.norm() * b.norm()))) < 1e-13
        assert_close([flow.bias.whole_norm[K - 1]], [torch.cat([d.flatten() for d in g_K.values()]).norm()])
    assert flow.lags.gradient_norm == pytest.approx(float(torch.cat([d.flatten() for d in g.values()]).norm()), rel=1e-13)


def gradient(model, method, batch):
    model.zero_grad()
    method.accumulate(model, batch)
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def test_one_step_alone_is_the_batch_without_its_other_losses():
    model, batch = language_model(GRU()), ragged(text())
    only = torch.zeros(T, B)
    only[4] = batch.weights[4]
    got, wanted = measured(model, batch, step=4), measured(model, replace(batch, weights=only))
    assert_close(list(got.lags.norms.values()), list(wanted.lags.norms.values()))
    same_map(got.adjoint.joint, wanted.adjoint.joint)


def test_everything_is_left_as_it_was():
    model, batch = language_model(GRU(), dropout=0.5), text()
    model.train()
    model.head.eval()
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    stood = [p.grad.clone() for p in model.parameters()]
    modes, chance = [m.training for m in model.modules()], torch.random.get_rng_state()
    a, b = measured(model, batch), measured(model, batch)
    assert [m.training for m in model.modules()] == modes
    assert_close([p.grad for p in model.parameters()], stood, 0.0)
    assert torch.equal(torch.random.get_rng_state(), chance)
    assert torch.equal(a.adjoint.profile, b.adjoint.profile)  # no dropout: nothing is drawn
    model.eval()
    assert a.loss == measured(model, batch).loss


def test_a_random_initial_state_is_the_same_one_throughout():
    model = LanguageModel(V, cell=GRU(), hidden_size=H, initial=tt.nn.Random())
    assert measured(model, text()).lags.error < 1e-13


def test_frozen_parameters_have_no_part():
    model, batch = language_model(LSTM()), text()
    model.recurrence.weight_hh_l0.requires_grad_(False)
    model.input.requires_grad_(False)
    flow = measured(model, batch)
    assert flow.lags.error < 1e-13
    assert not {"recurrence.weight_hh_l0", "input.weight"} & set(flow.lags.norms)


def test_parts_that_are_not_asked_for_are_not_there():
    model, batch = language_model(GRU()), text()
    flow, full = measured(model, batch, parameters=False, inputs=False), measured(model, batch)
    assert (flow.bias, flow.jacobians, flow.gates, flow.adjoint.inputs) == (None, None, None, None)
    assert flow.lags.norms == {}
    same_map(flow.adjoint.joint, full.adjoint.joint)
    same_map(measured(model, batch, parameters=False).adjoint.inputs, full.adjoint.inputs)
