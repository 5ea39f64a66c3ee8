"""Singular values and exponents against torch.func's Jacobians of the whole joint step."""

import pytest
import torch
from _paths import advance, stacked
from _tables import CELLS, name
from _truth import assert_close

import throughtime as tt
from throughtime.cells import GRU, LSTM, Elman
from throughtime.data import Batch
from throughtime.flow import Spectra
from throughtime.flow.measure._jacobians import joint_jacobian
from throughtime.flow.measure._traced import trace_batch
from throughtime.models import LanguageModel

V, H, T, B = 5, 4, 9, 3


def a_model(cell, layers):
    model = LanguageModel(V, cell=cell, hidden_size=H, num_layers=layers, embedding_size=3)
    for p in model.parameters():
        p.data.normal_(0, 0.6)
    return model.requires_grad_(False)


def text() -> Batch:
    ids = torch.randint(V, (T + 1, B))
    return Batch(ids[:-1], ids[1:])


def jacobians(model, batch):
    """[t][b] (n, n) ∂s_t/∂s_{t−1}, the joint state laid out layer by layer, state by state."""
    state, found = model.initial_state(B), []
    for t in range(batch.T):

        def step(s, b, t=t, state=state):  # (L, S, H) of one stream
            whole = tuple(torch.cat((part[:, :b], s[:, i : i + 1], part[:, b + 1 :]), 1) for i, part in enumerate(state))
            return torch.stack(stacked(advance(model, batch, t, whole)[2]), 1)[:, :, b]

        own = torch.stack(state, 1)  # (L, S, B, H)
        n = own[:, :, 0].numel()
        found.append([torch.func.jacrev(step)(own[:, :, b], b).reshape(n, n) for b in range(B)])
        state = stacked(advance(model, batch, t, state)[2])
    return found


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_jacobians_and_their_products(cell, layers):
    model, batch = a_model(cell, layers), text()
    truth, traced = jacobians(model, batch), trace_batch(model, batch, None)
    for t, b in ((0, 0), (4, 2), (8, 1)):
        assert_close([joint_jacobian(traced, t, b)], [truth[t][b]])
    product = truth[7][1] @ truth[6][1] @ truth[5][1]  # the later factor on the left
    assert_close([joint_jacobian(traced, 7, 1, 3)], [product])


@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_the_spectra_are_those_of_the_named_steps(cell):
    model, batch = a_model(cell, 2), text()
    truth = jacobians(model, batch)
    n = 2 * cell.states * H
    J = tt.gradient_flow(
        model.requires_grad_(True), batch, jacobians=Spectra(samples=4, spans=(2, 5, 10), windows=2, exponents=n)
    ).jacobians
    assert J.singular_values.shape == (4, n)
    for i, (t, b) in enumerate(zip(J.steps.tolist(), J.streams.tolist(), strict=True)):
        assert_close([J.singular_values[i]], [torch.linalg.svdvals(truth[t][b])])
    assert len(set(zip(J.steps.tolist(), J.streams.tolist(), strict=True))) == 4
    assert J.spans == (2, 5)  # ten steps are more than the batch has
    for p in J.spans:
        for i, t in enumerate(J.span_ends[p].tolist()):
            candidates = [
                torch.linalg.svdvals(torch.linalg.multi_dot(list(reversed([truth[u][b] for u in range(t - p + 1, t + 1)]))))
                for b in range(B)
            ]
            assert min(float((J.span_singular_values[p][i] - c).abs().max()) for c in candidates) < 1e-13
    # all n exponents together: the mean of ln |det J|, over t after the burn-in and over streams
    dets = torch.stack([torch.stack([torch.linalg.slogdet(truth[t][b]).logabsdet for b in range(B)]) for t in range(J.burn_in, T)])
    assert float(J.exponents.sum()) == pytest.approx(float(dets.mean()), rel=1e-9)
    assert float(J.exponents_spread.isnan().sum()) == 0
    radius = torch.stack(
        [torch.stack([torch.linalg.eigvals(R).abs().max() for R in model.recurrence.parameters_of(ell).R]) for ell in range(2)]
    )
    assert_close([J.radius], [radius])


def test_exponents_by_pushing_the_same_vectors_through_the_true_jacobians():
    model, batch = a_model(LSTM(), 2), text()
    truth, E = jacobians(model, batch), 3
    J = tt.gradient_flow(model.requires_grad_(True), batch, jacobians=Spectra(samples=0, spans=(), exponents=E, burn_in=2)).jacobians
    rates = []
    for b in range(B):
        Q = torch.linalg.qr(torch.randn(2 * 2 * H, E, generator=torch.Generator().manual_seed(0))).Q
        logs = []
        for t in range(T):
            Q, R = torch.linalg.qr(truth[t][b] @ Q)
            logs.append(R.diagonal().abs().log())
        rates.append(torch.stack(logs[2:]).mean(0).sort(descending=True).values)
    assert_close([J.exponents, J.exponents_spread], [torch.stack(rates).mean(0), torch.stack(rates).std(0)], 1e-10)
    assert (J.exponent_steps, J.burn_in) == (T - 2, 2)


def test_padding_is_not_followed():
    model, batch = a_model(GRU(), 1), text()
    mask = torch.ones(T, B, dtype=torch.bool)
    mask[5:, 0], mask[3:, 1] = False, False
    options = Spectra(samples=12, spans=(4,), exponents=2, burn_in=1)
    short = Batch(batch.inputs, batch.targets, mask=mask)
    J = tt.gradient_flow(model.requires_grad_(True), short, jacobians=options).jacobians
    last = torch.tensor([5, 3, 9])
    assert (J.steps < last[J.streams]).all()
    moved = batch.inputs.clone()
    moved[~mask] = (moved[~mask] + 1) % V  # what stands in the padding does not matter
    K = tt.gradient_flow(model, Batch(moved, batch.targets, mask=mask), jacobians=options).jacobians
    assert_close([K.exponents, K.singular_values], [J.exponents, J.singular_values], 0.0)


def test_bad_choices_get_a_sentence():
    with pytest.raises(ValueError, match=r"Spectra.samples is -1"):
        Spectra(samples=-1)
    with pytest.raises(ValueError, match=r"a span of Spectra.spans is 0.*number of Jacobians"):
        Spectra(spans=(4, 0))
    model = a_model(GRU(), 1).requires_grad_(True)
    with pytest.raises(ValueError, match=r"burn_in is 9, but the longest stream has 9 steps.*at most 8"):
        tt.gradient_flow(model, text(), jacobians=Spectra(burn_in=9))
