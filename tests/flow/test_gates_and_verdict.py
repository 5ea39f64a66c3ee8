"""Gates against their equations, and the verdict against profiles and networks whose verdict is known."""

import math

import pytest
import torch
from _tables import CELLS, name
from _truth import assert_close

import throughtime as tt
from throughtime.cells import GRU, LSTM, Elman, Relu
from throughtime.data import Batch
from throughtime.flow.measure._bias import least_window
from throughtime.flow.verdict._shape import fit_decay, horizon
from throughtime.models import LanguageModel
from throughtime.nn import ForgetBias, Orthogonal, TorchUniform

V, H, T, B = 5, 4, 6, 3


def text(T=T, B=B) -> Batch:
    ids = torch.randint(V, (T + 1, B))
    mask = torch.rand(T, B) < 0.8
    mask[0] = mask[-1] = True
    return Batch(ids[:-1], ids[1:], mask=mask)


def halves(model, batch):
    """wx + rh, wx, rh (N, G, H) and the state before, (N, H) each, where the mask stands."""
    p, state, found = model.recurrence.parameters_of(0), tuple(s[0] for s in model.initial_state(batch.B)), []
    xs = model.embed(batch)
    for t in range(batch.T):
        wx = torch.einsum("bi,ghi->bgh", xs[t], p.W) + p.b_ih
        rh = torch.einsum("bi,ghi->bgh", state[0], p.R) + p.b_hh
        found.append((wx, rh, *state))
        state = model.recurrence.cell.step(wx, rh, state)
    return [torch.stack(parts)[batch.mask].detach() for parts in zip(*found, strict=True)]


def wide(cell):
    model = LanguageModel(V, cell=cell, hidden_size=H)
    for p in model.parameters():
        p.data.normal_(0, 2.0)  # so that some gates saturate
    return model


def test_the_gates_of_a_gru():
    model, batch = wide(GRU()), text()
    gates = tt.gradient_flow(model, batch).gates
    wx, rh, _ = halves(model, batch)
    r, z = torch.sigmoid(wx[:, 0] + rh[:, 0]), torch.sigmoid(wx[:, 1] + rh[:, 1])
    n = torch.tanh(wx[:, 2] + r * rh[:, 2])
    assert gates.names == ("r", "z", "n")
    assert_close([gates.openness[0, :2]], [torch.stack((r.mean(0), z.mean(0)))])
    assert gates.openness[0, 2].isnan().all()
    closed = [4 * y * (1 - y) < 0.05 for y in (r, z)] + [1 - n * n < 0.05]
    assert_close([gates.saturation[0]], [torch.stack([s.double().mean(0) for s in closed])])
    kept = torch.exp(z.log().mean(0))
    assert_close([gates.retention[0, 0]], [kept])
    assert_close([gates.half_life[0, 0]], [math.log(0.5) / kept.log()])


def test_the_gates_of_an_lstm():
    model, batch = wide(LSTM()), text()
    gates = tt.gradient_flow(model, batch).gates
    wx, rh, _, _ = halves(model, batch)
    i, f, g, o = (wx + rh).unbind(1)
    assert gates.names == ("i", "f", "g", "o")
    assert_close([gates.openness[0, [0, 1, 3]]], [torch.stack([y.sigmoid().mean(0) for y in (i, f, o)])])
    assert_close([gates.saturation[0, 2]], [(1 - g.tanh() ** 2 < 0.05).double().mean(0)])
    assert_close([gates.saturation[0, 3]], [(4 * o.sigmoid() * (1 - o.sigmoid()) < 0.05).double().mean(0)])
    assert_close([gates.retention[0]], [torch.stack((torch.zeros(H), f.sigmoid().log().mean(0).exp()))])
    assert not gates.half_life[0, 0].any()


def test_units_of_the_simple_network():
    model, batch = wide(Elman()), text()
    gates = tt.gradient_flow(model, batch).gates
    wx, rh, _ = halves(model, batch)
    assert_close([gates.saturation[0, 0]], [(1 - (wx + rh)[:, 0].tanh() ** 2 < 0.05).double().mean(0)])
    assert not gates.half_life.any()
    off = wide(Elman(Relu()))
    off.recurrence.weight_hh_l0.data.mul_(0.01)
    off.recurrence.bias_ih_l0.data[:2] = -1e3
    gates = tt.gradient_flow(off, batch).gates
    assert_close([gates.saturation[0, 0, :2]], [torch.ones(2)])
    assert float(gates.dead[0]) >= 0.5


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_retention_is_the_cells_own_derivative(cell):
    model, batch = wide(cell), text()
    gates = tt.gradient_flow(model, batch, parameters=False).gates
    wx, rh, *state = halves(model, batch)
    own = torch.zeros(cell.states, len(wx), H)
    for n in range(len(wx)):
        step = lambda *s, n=n: tuple(part[0] for part in cell.step(wx[n : n + 1], rh[n : n + 1], tuple(p.unsqueeze(0) for p in s)))
        full = torch.func.jacrev(step, argnums=tuple(range(cell.states)))(*(s[n] for s in state))
        own[:, n] = torch.stack([full[p][p].diagonal() for p in range(cell.states)])
    assert_close([gates.retention[0]], [own.abs().log().mean(1).exp()])


@pytest.mark.parametrize("rho", [0.5, 1.0, 1.3])
def test_an_exponential_is_fitted_exactly(rho):
    profile = 3 * rho ** torch.arange(20.0)
    profile[0] = 100  # lag 0 is left out
    decay, r_squared, fit = fit_decay(profile, torch.arange(20.0, 0, -1))
    assert decay == pytest.approx(rho, rel=1e-12)
    assert r_squared == pytest.approx(1.0)
    assert fit == (1, 19)


def test_the_fit_is_weighted_least_squares():
    profile, counts = torch.rand(15) + 0.1, torch.randint(1, 50, (15,)).double()
    decay, r_squared, _ = fit_decay(profile, counts)
    k, y, w = torch.arange(1.0, 15), profile[1:].log(), counts[1:].sqrt()
    X = torch.stack((torch.ones(14), k), 1)
    solution = torch.linalg.lstsq(X * w.unsqueeze(1), (y * w).unsqueeze(1)).solution
    assert math.log(decay) == pytest.approx(float(solution[1]), rel=1e-10)
    mean = (w**2 * y).sum() / (w**2).sum()
    rest = ((w * (y - (X @ solution)[:, 0])) ** 2).sum() / ((w * (y - mean)) ** 2).sum()
    assert r_squared == pytest.approx(1 - float(rest), rel=1e-10)


def test_too_few_lags_for_a_fit():
    assert fit_decay(torch.tensor([1.0]), torch.tensor([3.0]))[2] == (0, 0)
    decay, r_squared, _ = fit_decay(torch.tensor([1.0, 1.0, 0.5]), torch.ones(3))
    assert decay == pytest.approx(0.5)
    assert math.isnan(r_squared)
    flow = tt.gradient_flow(wide(GRU()), text(T=1))
    assert math.isnan(flow.verdict.decay)
    assert "too few lags" in flow.verdict.sentence


def test_horizon_and_least_window():
    assert horizon(torch.tensor([1.0, 0.5, 0.005, 0.02, 0.009, 0.001])) == 4
    assert horizon(torch.tensor([1.0, 0.5])) is None
    assert least_window(torch.tensor([0.5, 0.05, 0.2, 0.1, 0.0]), 0.1) == 4
    assert least_window(torch.tensor([0.5, 0.2]), 0.1) is None
    assert least_window(torch.zeros(3), 0.1) == 1


def about(flow, what):
    return next((a for a in flow.verdict.advice if a.about == what), None)


def simple(gain: float) -> LanguageModel:
    return LanguageModel(V, cell=Elman(), hidden_size=32, initialisers=[TorchUniform(), Orthogonal(gain)])


def test_a_small_start_vanishes_and_is_told_where_to_start():
    flow = tt.gradient_flow(simple(0.5), text(60))
    assert flow.verdict.state == "vanishing"
    assert flow.verdict.horizon < 12
    assert flow.verdict.sentence.startswith("The gradient vanishes: it changes ×0.")
    start, window, gates = about(flow, "start"), about(flow, "window"), about(flow, "gates")
    assert start.because["radius"] == pytest.approx(0.5)
    assert "The spectral radius of R is 0.5, too small" in start.sentence
    assert window.value == flow.bias.least[0.01]
    k = flow.bias.least[0.01]
    assert window.sentence.startswith(f"Windows of {2 * k} steps, a new one every {k}, miss ")
    assert "until it is mended" in window.sentence
    assert (window.python, window.flags) == (f"gradients.TruncatedBPTT({k}, {2 * k})", f"--gradient truncated:k1={k},k2={2 * k} --bptt {k}")
    assert "a GRU or an LSTM whose gates start spread over 60 steps" in gates.sentence
    assert gates.flags == "--cell gru --chrono 60"
    assert about(flow, "regulariser").because["decay"] == flow.verdict.decay


def test_a_large_start_explodes_and_is_told_where_to_clip():
    model = simple(2.0)
    model.input.weight.data.mul_(0.01)  # small states: tanh is nearly linear, J nearly 2 Q
    model.recurrence.bias_ih_l0.data.zero_()
    model.recurrence.bias_hh_l0.data.zero_()
    flow = tt.gradient_flow(model, text(8))
    assert flow.verdict.state == "exploding"
    assert flow.verdict.decay > 1.5
    clip = about(flow, "clip")
    assert clip.value == float(flow.bias.whole_norm[int(clip.because["lag"]) - 1])
    assert 0 < clip.value < flow.lags.gradient_norm
    assert float(flow.adjoint.profile[int(clip.because["lag"])]) > 2 * float(flow.adjoint.profile[0])
    assert about(flow, "start").told("python").endswith("start from orthogonal weights, radius 1: nn.Orthogonal()")
    assert about(flow, "start").told("shell").endswith("radius 1: --init orthogonal")
    assert about(flow, "window") is None


def test_a_gated_network_that_forgets_is_told_how_far_to_open_its_gate():
    model = LanguageModel(V, cell=LSTM(), hidden_size=16, initialisers=[TorchUniform(), ForgetBias(-3)])
    flow = tt.gradient_flow(model, text(60))
    assert flow.verdict.state == "vanishing"
    gates = about(flow, "gates")
    assert gates.because["half_life_90"] == float(flow.gates.half_life[0, -1].quantile(0.9))
    assert gates.value == pytest.approx(math.log(59))


def test_a_healthy_network_is_told_its_window_and_a_clip():
    flow = tt.gradient_flow(simple(1.0), text(10))
    assert flow.verdict.state == "healthy"
    assert about(flow, "clip").value == 2 * flow.lags.gradient_norm
    assert [a.about for a in flow.verdict.advice] == ["window", "clip"]
    assert about(flow, "window").sentence.startswith("These 10 steps are too few to promise a window")


def test_saturated_units_are_named():
    model = simple(1.0)
    model.recurrence.weight_ih_l0.data.mul_(100)
    flow = tt.gradient_flow(model, text(40))
    assert flow.verdict.state == "saturated"
    assert "The units are saturated" in flow.verdict.sentence
    assert flow.verdict.advice[0].because["saturation"] == pytest.approx(float(flow.gates.saturation.mean()))
