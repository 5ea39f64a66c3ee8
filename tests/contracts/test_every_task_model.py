"""Models of tables × gradient methods × flow: none of them knows of the other."""

import pytest
import torch
from _gradients import DEFINED
from _models import classifier, forecaster, frame_batch, frame_model, labelled_batch, table_batch
from _past import calls, ragged
from _tables import first
from _truth import assert_close

from throughtime.flow import gradient_flow
from throughtime.gradients import RTRL, CheckpointedBPTT, FullBPTT, TruncatedBPTT
from throughtime.models import AbsoluteError, BinaryCrossEntropy, GaussianLikelihood, Huber, MeanSquaredError, Quantiles

LOSSES = [MeanSquaredError(0.25), AbsoluteError(), Huber(0.5), GaussianLikelihood(), Quantiles((0.1, 0.5, 0.9))]
CASES = [(loss, row) for loss in LOSSES for row in DEFINED]
QUICK = [
    (GaussianLikelihood(), FullBPTT()),
    (LOSSES[-1], TruncatedBPTT(3, 5)),
    (Huber(0.5), RTRL()),
    (LOSSES[0], CheckpointedBPTT(every=5)),
]


@pytest.mark.parametrize(
    ("loss", "row"), first([c for c in CASES if (c[0], c[1].method) in QUICK], CASES), ids=[f"{loss}-{row}" for loss, row in CASES]
)
def test_agrees_with_its_definition(loss, row):
    """With missing targets, padding and uneven weights."""
    model, batch = forecaster(row.cells[0], row.layers, loss), ragged(table_batch())
    assert_close(calls(row.method, model, [batch])[0], row.definition(model, [batch]))


FRAMES = [(loss, row) for loss in (BinaryCrossEntropy(), GaussianLikelihood()) for row in DEFINED]
QUICK_FRAMES = [(BinaryCrossEntropy(), FullBPTT()), (GaussianLikelihood(), RTRL()), (BinaryCrossEntropy(), TruncatedBPTT(3, 5))]


@pytest.mark.parametrize(
    ("loss", "row"), first([c for c in FRAMES if (c[0], c[1].method) in QUICK_FRAMES], FRAMES), ids=[f"{a}-{r}" for a, r in FRAMES]
)
def test_a_model_of_frames_agrees_with_its_definition(loss, row):
    """With padding and uneven weights."""
    model, batch = frame_model(row.cells[0], row.layers, loss), ragged(frame_batch(loss))
    assert_close(calls(row.method, model, [batch])[0], row.definition(model, [batch]))


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(), GaussianLikelihood()], ids=str)
def test_flow_of_a_model_of_frames_adds_up_to_the_gradient(loss):
    flow = gradient_flow(frame_model(DEFINED[0].cells[1], 1, loss), frame_batch(loss))
    assert flow.lags.closes
    assert flow.verdict.sentence


LABELS = [(each, row) for each in ("sequence", "step") for row in DEFINED]
QUICK_LABELS = [("sequence", FullBPTT()), ("step", TruncatedBPTT(3, 5)), ("sequence", RTRL()), ("step", CheckpointedBPTT(every=5))]


@pytest.mark.parametrize(
    ("each", "row"), first([c for c in LABELS if (c[0], c[1].method) in QUICK_LABELS], LABELS), ids=[f"{e}-{r}" for e, r in LABELS]
)
def test_a_classifier_agrees_with_its_definition(each, row):
    """Sequences of different lengths, with one label each or one a step."""
    model, batch = classifier(row.cells[0], row.layers, each), labelled_batch(each)
    assert_close(calls(row.method, model, [batch])[0], row.definition(model, [batch]))


@pytest.mark.parametrize("each", ["sequence", "step"])
def test_flow_of_a_classifier_adds_up_to_the_gradient(each):
    flow = gradient_flow(classifier(DEFINED[0].cells[1], 1, each), labelled_batch(each))
    assert flow.lags.closes
    assert flow.verdict.sentence


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_flow_adds_up_to_the_gradient(loss):
    model, batch = forecaster(DEFINED[0].cells[1], 1, loss), table_batch()
    flow = gradient_flow(model, batch)
    assert flow.lags.closes
    assert flow.verdict.sentence


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_missing_target_has_no_loss_and_no_gradient(loss):
    """The loss of a step is that of its known values; what stands in the place of a missing one does not matter."""
    o = torch.randn(3, 2, loss.outputs * 4, requires_grad=True)
    y = torch.randn(3, 2, 4)
    y[0, 1] = y[2, :, 3] = torch.nan
    per_step = loss.per_step(o, y, lambda x: x)
    numbers = o.unflatten(-1, (loss.outputs, 4))
    for t, b in ((0, 0), (2, 1)):
        known = [v for v in range(4) if not y[t, b, v].isnan()]
        alone = loss.per_step(numbers[t, b, :, known].reshape(1, 1, -1), y[t, b, known].reshape(1, 1, -1), lambda x: x)
        assert_close([per_step[t, b]], [alone.squeeze()])
    assert per_step[0, 1] == 0
    (grad,) = torch.autograd.grad(per_step.sum(), o)
    assert torch.isfinite(grad).all()
    assert (grad[0, 1] == 0).all()


def test_the_gaussian_and_the_quantiles_are_those_of_torch_and_of_their_definition():
    o, y = torch.randn(5, 2, 6), torch.randn(5, 2, 3)
    mu, raw = o.unflatten(-1, (2, 3)).unbind(-2)
    wanted = -torch.distributions.Normal(mu, torch.nn.functional.softplus(raw) + 1e-3).log_prob(y).sum(-1)
    assert_close([GaussianLikelihood().per_step(o, y, lambda x: x)], [wanted])
    many = torch.randn(20_001)
    for q in (0.1, 0.5, 0.9):  # the constant that costs least is the quantile: left and right of it the loss grows
        loss, at = Quantiles((q,)), float(many.quantile(q))
        cost = [
            float(loss.per_step(torch.full((20_001, 1, 1), at + d), many.view(-1, 1, 1), lambda x: x).mean()) for d in (-0.05, 0.0, 0.05)
        ]
        assert cost[1] == min(cost)
