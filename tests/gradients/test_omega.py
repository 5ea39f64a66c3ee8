"""Pascanu's Ω against its equation, written out step by step, stream by stream, in float64."""

import math

import pytest
import torch
from _tables import bump, mixing
from _truth import assert_close, rounding

from throughtime.cells import GRU, LSTM, Elman, Identity, Relu, Sigmoid
from throughtime.data import Batch, temporal_order
from throughtime.gradients import FullBPTT, TruncatedBPTT, WithOmega, omega
from throughtime.models import Head, LanguageModel, OneHot, SequenceModel, SquaredError, Vectors
from throughtime.models._losses import Linear
from throughtime.nn import Random, Recurrence
from throughtime.training import ClipNorm, step

V, I, H, T, B = 7, 3, 5, 9, 4


def network(cell=None, layers=1, **options) -> LanguageModel:
    model = LanguageModel(V, cell=cell or Elman(), hidden_size=H, num_layers=layers, embedding_size=I, **options)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    return model


def text(T: int = T, B: int = B, **options) -> Batch:
    ids = torch.randint(V, (T + 1, B))
    return Batch(ids[:-1], ids[1:], **options)


def literally(model, batch: Batch, b: int, layer: int, state):
    """Σ_t (r_t − 1)² of one stream and layer, its gradient by (4), every λ by autograd, and how many terms there were."""
    stack, phi = model.recurrence, model.recurrence.cell.phi
    states, a = [[s for s in state[0][:, b].detach()]], []
    for t in range(batch.T):
        below, row = model.embed(batch)[t, b].detach(), []
        for k in range(stack.num_layers):
            p = stack.parameters_of(k)
            row.append(p.W[0] @ below + p.b_ih[0] + p.R[0] @ states[t][k] + p.b_hh[0])
            below = phi(row[k].unsqueeze(0))[0]
            states.append([]) if k == 0 else None
            states[t + 1].append(below)
        a.append(row)
    outputs = torch.stack([row[-1] for row in states[1:]]).unsqueeze(1)
    rest = [None if x is None else x[:, b : b + 1] for x in (batch.mask, batch.weights)]
    loss = model.losses(outputs, Batch(batch.inputs[:, b : b + 1], batch.targets[:, b : b + 1], *rest)).sum()
    adjoints = torch.autograd.grad(loss, [row[layer] for row in a], allow_unused=True)
    R = stack.parameters_of(layer).R[0].detach()
    total, gradient, terms = torch.zeros(()), torch.zeros(H, H), 0
    for t in range(batch.T - 1):
        lam = adjoints[t + 1]
        if lam is None or not lam.any():
            continue
        slope = torch.func.jacrev(lambda x: phi(x.unsqueeze(0))[0])(a[t][layer].detach())
        q = lam @ (R @ slope)  # J = ∂a_{t+1}/∂a_t
        r = q.norm() / lam.norm()
        total, terms = total + (r - 1) ** 2, terms + 1
        if q.any():
            gradient += 2 * (r - 1) * torch.outer(lam, slope @ q) / (q.norm() * lam.norm())
    return total, gradient, terms


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    "cell", [Elman(), Elman(Relu()), Elman(Sigmoid()), Elman(Identity()), Elman(bump), Elman(mixing)], ids=lambda c: str(c)[:24]
)
def test_is_its_equation(cell, layers, reduction):
    model = network(cell, layers, reduction=reduction, initial=Random())
    batch = text(mask=torch.rand(T, B) < 0.8, weights=torch.rand(T, B).round(decimals=1))
    state = model.initial_state(B)
    found = omega(model, batch, state)
    wanted = [[literally(model, batch, b, k, state) for b in range(B)] for k in range(layers)]
    s = 1 if reduction == "sum" else 1 / sum(terms for row in wanted for _, _, terms in row)
    assert_close([found.value], [s * sum(value for row in wanted for value, _, _ in row)])
    assert_close(found.gradients, [s * sum(gradient for _, gradient, _ in row) for row in wanted])
    assert sum(int(r.isfinite().sum()) for r in found.ratios) == sum(terms for row in wanted for _, _, terms in row)


@pytest.mark.parametrize("T", [1, 2])
def test_short_sequences(T):
    model, batch = network(), text(T, 1)
    found = omega(model, batch)
    value, gradient, terms = literally(model, batch, 0, 0, model.initial_state(1))
    assert terms == T - 1
    assert_close([found.value, *found.gradients], [value, gradient])


def test_is_the_slope_of_its_value_where_all_else_is_constant():
    """By central differences in R, with linear units and a loss at the last of two steps: λ is then the head's own."""
    model = SequenceModel(
        Vectors(I), Recurrence(Elman(Identity()), I, H), Head(H, 2, output=Linear(), loss=SquaredError()), reduction="sum"
    )
    weights = torch.tensor([[0.0], [1.0]])
    batch = Batch(torch.randn(2, 1, I), torch.randn(2, 1, 2), weights=weights)
    last = model.recurrence(model.embed(batch))[0][-1:].detach().requires_grad_()
    (lam,) = torch.autograd.grad(model.losses(last, batch.steps(1, 2)).sum(), [last])
    found, R = omega(model, batch), model.recurrence.get_parameter("weight_hh_l0").detach()

    def value(R) -> float:
        return float(((lam[0, 0] @ R).norm() / lam.norm() - 1) ** 2)

    assert float(found.value) == pytest.approx(value(R), rel=rounding())
    for i, j in ((0, 0), (1, 3), (4, 2)):
        nudge = torch.zeros(H, H)
        nudge[i, j] = 1e-5
        slope = (value(R + nudge) - value(R - nudge)) / 2e-5
        assert float(found.gradients[0][i, j]) == pytest.approx(slope, rel=1e-6, abs=1e-8)  # the differences' own error is O(1e-10)


def test_a_gradient_too_small_to_square_still_counts():
    """‖λ‖² underflows in float32 after some twenty of these steps; λ itself does not."""
    torch.set_default_dtype(torch.float32)
    model = network(Elman(Identity()), reduction="sum")
    with torch.no_grad():
        model.recurrence.get_parameter("weight_hh_l0").copy_(0.1 * torch.linalg.qr(torch.randn(H, H))[0])
    weights = torch.zeros(35, 1)
    weights[-1] = 1
    (ratios,) = omega(model, text(35, 1, weights=weights)).ratios
    torch.testing.assert_close(ratios, torch.full((34, 1), 0.1), rtol=1e-5, atol=0)


def test_where_the_ratio_is_nought_the_slope_is_taken_as_nought():
    model = network(Elman(Relu()), reduction="sum")
    with torch.no_grad():
        model.recurrence.get_parameter("bias_ih_l0")[:] = -99.0
        model.recurrence.get_parameter("bias_hh_l0")[:] = torch.tensor([0.0, 99.0, 99.0, 99.0, 99.0])
        model.recurrence.get_parameter("weight_hh_l0")[:] = 0.0
    found = omega(model, text())
    assert found.value > 0
    assert not found.gradients[0].any()


def test_without_a_loss_there_is_no_term():
    found = omega(network(), text(mask=torch.zeros(T, B, dtype=torch.bool)))
    assert float(found.value) == 0
    assert not found.gradients[0].any()
    assert found.ratios[0].isnan().all()


@pytest.mark.parametrize("method", [FullBPTT(), TruncatedBPTT(4), TruncatedBPTT(3, 5)], ids=str)
def test_is_added_to_the_method_and_to_nothing_else(method):
    model, carry = network(layers=2), None
    for batch in (text(), text()):  # the second with the carry of the first
        model.zero_grad()
        outcome = method.accumulate(model, batch, carry)
        plain = {name: p.grad.clone() for name, p in model.named_parameters()}
        model.zero_grad()
        found = omega(model, batch, None if carry is None else carry.state)
        assert all(p.grad is None for p in model.parameters())
        both = WithOmega(method, 0.7).accumulate(model, batch, carry)
        assert_close([both.loss, *both.carry.state], [outcome.loss, *outcome.carry.state])
        for name, p in model.named_parameters():
            layer = name.removeprefix("recurrence.weight_hh_l")
            assert_close([p.grad], [plain[name] + (0.7 * found.gradients[int(layer)] if layer.isdigit() else 0)])
        carry = both.carry


def test_chance_goes_the_same_way_with_and_without():
    model, batch = network(dropout=0.5), text()
    seen = []
    for method in (FullBPTT(), WithOmega(FullBPTT(), 0.0)):
        torch.manual_seed(3)
        model.zero_grad()
        loss = method.accumulate(model, batch).loss
        seen.append([loss, torch.rand(()), *(p.grad.clone() for p in model.parameters())])
    for one, other in zip(*seen, strict=True):
        assert torch.equal(one, other)


def test_a_frozen_matrix_stays_as_it_is():
    model = network()
    R = model.recurrence.get_parameter("weight_hh_l0").requires_grad_(False)
    WithOmega(FullBPTT(), 1.0).accumulate(model, text())
    assert R.grad is None


@pytest.mark.parametrize("cell", [GRU(), LSTM()], ids=str)
def test_other_cells_are_told_what_would_do(cell):
    with pytest.raises(NotImplementedError, match=r"omega is defined for the simple network.*Use cells.Elman.*nn.ForgetBias, nn.Chrono"):
        WithOmega(FullBPTT(), 1.0).accumulate(network(cell), text())


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_that_mean_nothing(weight):
    with pytest.raises(ValueError, match=r"the weight of omega is .*; expected a finite number of at least 0"):
        WithOmega(FullBPTT(), weight)


@pytest.mark.slow
def test_it_learns_an_order_that_plain_descent_does_not():
    """The paper's temporal-order task, symbols up to 27 steps from the loss: chance is 75 % wrong. benchmarks/papers/temporal_order.py has the table."""
    torch.set_default_dtype(torch.float32)
    test = temporal_order(30, 1000, torch.Generator().manual_seed(1))
    wrong = {}
    for method in (FullBPTT(), WithOmega(FullBPTT(), 2.0)):
        torch.manual_seed(0)
        model = SequenceModel(OneHot(6), Recurrence(Elman(), 6, 50), Head(50, 4))
        optimizer, chance = torch.optim.SGD(model.parameters(), 0.1), torch.Generator().manual_seed(0)
        for _ in range(3000):
            step(model, temporal_order(30, 20, chance), None, gradient=method, clips=[ClipNorm(1.0)], optimizer=optimizer)
        hs, _ = model.recurrence(model.embed(test))
        wrong[method] = float((model.head(hs[-1]).argmax(1) != test.targets[-1]).double().mean())
    assert wrong[FullBPTT()] > 0.6
    assert wrong[WithOmega(FullBPTT(), 2.0)] < 0.01
