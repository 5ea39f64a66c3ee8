"""What each form of window misses, against the gradient methods themselves, as ``gradients.compare`` measures them on the same batch."""

import math

import pytest
import torch
from _tables import first, name

import throughtime as tt
from throughtime.cells import GRU, LSTM, Elman
from throughtime.data import Batch
from throughtime.flow import TrainedBy
from throughtime.flow.measure._traced import trace_batch
from throughtime.flow.measure._windows import truncated_gradients
from throughtime.gradients import RTRL, UORO, CheckpointedBPTT, FullBPTT, SlidingBPTT, TruncatedBPTT, compare
from throughtime.models import LanguageModel
from throughtime.nn import Learnable

V, H, T, B = 5, 4, 13, 3


def model(cell, **options) -> LanguageModel:
    made = LanguageModel(V, cell=cell, hidden_size=H, embedding_size=3, **options)
    for p in made.parameters():
        p.data.normal_(0, 0.6)
    return made


def text(T=T, **options) -> Batch:
    ids = torch.randint(V, (T + 1, B))
    return Batch(ids[:-1], ids[1:], **options)


def gradient(model, method, batch, carry=None):
    model.zero_grad()
    method.accumulate(model, batch, carry)
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize("cell", [Elman(torch.sin), GRU(), LSTM()], ids=name)
def test_every_parameter_of_both_forms_is_the_methods(cell):
    """13 steps: a last window that is shorter, one that is not, and for k ≥ 7 one that all but the first window lacks. 1e-12: see test_lags."""
    m = model(cell, num_layers=2, initial=Learnable())
    batch = text(weights=torch.rand(T, B) + 0.1, mask=torch.rand(T, B) < 0.8)
    traced = trace_batch(m, batch, None)
    for k in (1, 2, 5, 6, 7, 12):
        for method, found in zip((TruncatedBPTT(k), TruncatedBPTT(k, 2 * k)), truncated_gradients(m, traced, k), strict=True):
            for n, wanted in gradient(m, method, batch).items():
                got = found.get(n, torch.zeros_like(wanted))
                assert float((got - wanted).norm()) <= 1e-12 * float(wanted.norm()), (method, n)


def test_a_carried_state():
    m, batch = model(LSTM()), text()
    state = tuple(torch.randn(1, B, H) for _ in range(2))
    for method, found in zip(
        (TruncatedBPTT(5), TruncatedBPTT(5, 10)), truncated_gradients(m, trace_batch(m, batch, state), 5), strict=True
    ):
        for n, wanted in gradient(m, method, batch, state).items():
            assert float((found[n] - wanted).norm()) <= 1e-12 * float(wanted.norm())


@pytest.mark.parametrize("cell", first([GRU()], [Elman(), GRU(), LSTM()]), ids=str)
@pytest.mark.slow
def test_the_claims_are_those_of_compare(cell):
    """The page, and ``throughtime compare-gradients`` on the same batch: sliding, chunked, (k, 2k), and the training's own."""
    m, batch = model(cell), text(28)
    by = TrainedBy(TruncatedBPTT(6, 9))
    bias = tt.gradient_flow(m, batch, jacobians=None, trained_by=by).bias
    claims = {"own": (by.method, bias.own.bias, bias.own.cosine)}
    for at in (0, 2, 7, 20):
        claims[f"sliding {at}"] = (SlidingBPTT(at + 1), float(bias.bias[at]), float(bias.cosine[at]))
    for i, k in enumerate(map(int, bias.chunked.windows.tolist())):
        claims[f"chunked {k}"] = (TruncatedBPTT(k), float(bias.chunked.bias[i]), float(bias.chunked.cosine[i]))
        claims[f"overlapping {k}"] = (TruncatedBPTT(k, 2 * k), float(bias.overlapping.bias[i]), float(bias.overlapping.cosine[i]))
    assert len(claims) > 15
    for row in compare(m, batch, {label: method for label, (method, _, _) in claims.items()}):
        _, bias_, cosine = claims[row.name]
        assert bias_ == pytest.approx(row.bias, rel=1e-9, abs=1e-12), row.name
        assert cosine == pytest.approx(row.cosine, abs=1e-12), row.name


def test_the_advised_window_reaches_what_it_promises():
    m, batch = model(Elman()), text(60)
    flow = tt.gradient_flow(m, batch, jacobians=None)
    advice = next(a for a in flow.verdict.advice if a.about == "window")
    method = eval(advice.python, {"gradients": tt.gradients})
    (row,) = compare(m, batch, {"advised": method})
    assert row.bias == pytest.approx(advice.because["bias"], rel=1e-9)
    assert row.bias <= 0.01
    assert advice.flags.split()[1] in (f"truncated:k1={method.k1},k2={method.reach}", str(method.k1))


@pytest.mark.parametrize("steps", first([4], [4, 12]))
def test_a_training_in_windows_is_what_its_calls_add_up_to(steps):
    """``full`` on windows of 4 steps is chunks of 4, whatever its name says; the carry of (3, 5) keeps history across the calls."""
    m, batch = model(GRU()), text(12, mask=torch.rand(12, B) < 0.7)
    own = lambda method, steps: tt.gradient_flow(m, batch, jacobians=None, trained_by=TrainedBy(method, steps)).bias.own
    chunked = own(TruncatedBPTT(4), None).bias
    assert own(FullBPTT(), 4).bias == pytest.approx(chunked, rel=1e-9)
    assert own(CheckpointedBPTT(every=2), 4).bias == pytest.approx(chunked, rel=1e-9)
    assert own(FullBPTT(), None).bias < 1e-14
    assert own(TruncatedBPTT(4, 6), 4).bias == pytest.approx(own(TruncatedBPTT(4, 6), None).bias, rel=1e-9)
    assert own(SlidingBPTT(3), steps).bias == pytest.approx(own(SlidingBPTT(3), None).bias, rel=1e-9)


def test_random_methods_and_those_forward_in_time_are_not_measured():
    for method in (UORO(), RTRL()):
        assert tt.gradient_flow(model(GRU()), text(), jacobians=None, trained_by=TrainedBy(method)).bias.own is None


def test_windows_shorter_than_the_batch_alone():
    bias = tt.gradient_flow(model(GRU()), text(2), jacobians=None).bias
    assert bias.chunked.windows.tolist() == [1.0]
    assert tt.gradient_flow(model(GRU()), text(1), jacobians=None).bias.chunked is None
    with pytest.raises(tt.InputError, match=r"TrainedBy.steps is 0; expected an integer from 1"):
        TrainedBy(FullBPTT(), 0)


def test_least_of_the_windows_that_were_measured():
    bias = tt.gradient_flow(model(GRU()), text(40), jacobians=None).bias
    for curve in (bias.chunked, bias.overlapping):
        for level, least in curve.least.items():
            above = [int(k) for k, b in zip(curve.windows, curve.bias, strict=True) if not b <= level]
            later = [int(k) for k in curve.windows if int(k) > max(above, default=0)]
            assert least == (later[0] if later else None)
    assert not math.isnan(float(bias.overlapping.bias[-1]))


def test_windows_may_be_left_out():
    model, batch = tt.LanguageModel(5, hidden_size=4), tt.Batch(*torch.randint(5, (2, 12, 2)).unbind())
    flow = tt.gradient_flow(model, batch, windows=False, jacobians=None)
    assert flow.bias is not None
    assert flow.bias.chunked is flow.bias.overlapping is None
    assert flow.bias.least[0.1] is not None
