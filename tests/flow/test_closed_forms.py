"""Networks whose gradient flow can be written down: one linear neuron, orthogonal and triangular linear networks."""

import math

import pytest
import torch
from _truth import assert_close

import throughtime as tt
from throughtime.cells import Elman, Identity
from throughtime.data import Batch
from throughtime.flow import Spectra
from throughtime.models import Head, SequenceModel, SquaredError, Vectors
from throughtime.models._losses import Linear
from throughtime.nn import Recurrence


def linear_network(R: torch.Tensor, I: int = 2) -> SequenceModel:
    """h' = R h + W x, ŷ = V h, squared error, its bare sum."""
    H = len(R)
    model = SequenceModel(
        Vectors(I),
        Recurrence(Elman(Identity()), I, H, bias=False),
        Head(H, 1, bias=False, output=Linear(), loss=SquaredError(0.5)),
        reduction="sum",
    )
    model.recurrence.weight_hh_l0.data.copy_(R)
    return model


def vectors(T: int, B: int = 2, I: int = 2) -> Batch:
    return Batch(torch.randn(T, B, I), torch.randn(T, B, 1))


@pytest.mark.parametrize("w", [0.7, -0.9, 1.0, 1.2, -1.5])
def test_a_single_linear_neuron(w):
    """h_t = w h_{t−1} + u x_t: A[t, k] = |w|^k |e_t v|, with e_t = ŷ_t − y_t; g^(k) of u is Σ_t e_t v w^k x_{t−k}."""
    T, model = 12, linear_network(torch.tensor([[w]]), I=1)
    batch = vectors(T, I=1)
    flow = tt.gradient_flow(model, batch, tensors=["recurrence.weight_ih_l0"])
    with torch.no_grad():
        hs, _ = model.recurrence(batch.inputs)
        e = (model.head(hs) - batch.targets)[..., 0] * model.head.weight[0, 0]  # (T, B)
    k = torch.arange(T)
    wanted = (abs(w) ** k) * e.abs().mean(1, keepdim=True)
    standing = k.unsqueeze(0) <= torch.arange(T).unsqueeze(1)
    assert_close([flow.adjoint.joint.nan_to_num()], [wanted.where(standing, 0)])
    u_parts = torch.stack([(e[lag:] * w**lag * batch.inputs[: T - lag, :, 0]).sum() for lag in range(T)])
    assert_close([flow.lags.tensors["recurrence.weight_ih_l0"].flatten()], [u_parts])
    assert flow.jacobians is not None
    assert_close([flow.jacobians.singular_values], [torch.full((8, 1), abs(w))])
    assert_close([flow.jacobians.radius], [torch.tensor([[abs(w)]])])
    assert float(flow.jacobians.exponents[0]) == pytest.approx(math.log(abs(w)), abs=1e-13)
    if flow.adjoint.counts[0]:
        own = tt.gradient_flow(model, batch, step=T - 1).verdict  # one loss: the profile is |w|^k itself
        assert own.decay == pytest.approx(abs(w), rel=1e-12)
        assert own.r_squared == pytest.approx(1.0)


def test_an_orthogonal_network_keeps_every_norm():
    H = 6
    R = torch.linalg.qr(torch.randn(H, H)).Q
    flow = tt.gradient_flow(linear_network(R), vectors(20))
    by_loss = flow.adjoint.joint
    assert_close([by_loss.where(~by_loss.isnan(), by_loss[:, :1])], [by_loss[:, :1].expand(20, 20)])
    assert flow.jacobians is not None
    for p in flow.jacobians.spans:
        assert_close([flow.jacobians.span_singular_values[p]], [torch.ones(4, H)])
    assert float(flow.jacobians.exponents.abs().max()) < 1e-13
    assert flow.verdict.state == "healthy"
    assert flow.verdict.horizon is None


def test_exponents_of_a_linear_network_are_the_logarithms_of_its_eigenvalues():
    """J is R at every step. The columns of Q turn into its Schur vectors like (|μ_2|/|μ_1|)^t: 0.8^300 ~ 1e-29."""
    mu = torch.tensor([1.1, 0.88, -0.7, 0.5])
    basis = torch.randn(4, 4) + 2 * torch.eye(4)
    R = basis @ torch.diag(mu) @ torch.linalg.inv(basis)
    batch = vectors(400)
    flow = tt.gradient_flow(linear_network(R), batch, max_lag=0, jacobians=Spectra(burn_in=300, samples=0, spans=(), exponents=9))
    assert flow.jacobians is not None
    assert_close([flow.jacobians.exponents], [mu.abs().log()], 1e-10)
    assert_close([flow.jacobians.radius], [torch.tensor([[1.1]])])
    assert flow.jacobians.exponent_steps == 100


@pytest.mark.slow
def test_a_vanishing_network_in_float32_is_followed_below_what_float32_holds():
    """0.5^300 is 5e-91; the power of two kept aside carries it. Error: 300 steps of float32 rounding, 6e-8 each."""
    torch.manual_seed(1)
    model = linear_network(0.5 * torch.linalg.qr(torch.randn(5, 5)).Q)
    batch = vectors(301)
    wanted = tt.gradient_flow(model, batch, jacobians=None).adjoint
    single = Batch(batch.inputs.float(), batch.targets.float())
    got = tt.gradient_flow(model.float(), single, jacobians=None).adjoint
    assert float(wanted.profile[300]) < 1e-85
    assert float((got.profile / wanted.profile - 1).abs().max()) < 300 * 6e-8 * 5
    assert float((got.quantiles / wanted.quantiles - 1).abs().max()) < 1e-3  # of single losses, some of which nearly cancel


def test_an_exploding_network_in_float32_is_followed_above_it():
    model = linear_network(4.0 * torch.linalg.qr(torch.randn(5, 5)).Q)
    weights = torch.zeros(50, 2)
    weights[49] = 1
    batch = Batch(torch.zeros(50, 2, 2), torch.ones(50, 2, 1), weights=weights)
    profile = tt.gradient_flow(model, batch, jacobians=None).adjoint.profile
    single = Batch(batch.inputs.float(), batch.targets.float(), weights=weights.float())
    got = tt.gradient_flow(model.float(), single, jacobians=None, parameters=False)
    assert float((got.adjoint.profile / profile - 1).abs().max()) < 1e-4
    assert got.verdict.state == "exploding"
    assert got.verdict.decay == pytest.approx(4.0, rel=1e-4)
