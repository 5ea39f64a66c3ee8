"""Schedule, clip, optimisers, and the order of a step."""

import math

import pytest
import torch
from torch import nn

from throughtime import Batch, InputError, LanguageModel, NonFinite
from throughtime.gradients import TruncatedBPTT
from throughtime.training import ClipNorm, ClipValue, OptimiserOptions, global_norm, step
from throughtime.training._optimisers import build_optimizer
from throughtime.training._schedule import learning_rate


def rate(*, step: int = 0, epoch: float = 0.0, progress: float = 0.0, **options) -> float:
    return learning_rate(OptimiserOptions(lr=2.0, **options), step=step, epoch=epoch, progress=progress)


def test_constant():
    assert rate(step=7, epoch=3.0, progress=0.9) == 2.0


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_linear_and_cosine_go_from_the_rate_to_a_hundredth(schedule):
    assert rate(schedule=schedule) == 2.0
    assert rate(schedule=schedule, progress=0.5) == pytest.approx(2.0 * 0.505)
    assert rate(schedule=schedule, progress=1.0) == pytest.approx(0.02)


def test_cosine_is_half_a_cosine():
    assert rate(schedule="cosine", progress=0.25) == pytest.approx(2.0 * (0.01 + 0.99 * (1 + math.cos(math.pi / 4)) / 2))


def test_exponential_falls_by_a_factor_every_epoch_after_the_first_ones():
    rates = [rate(schedule="exponential", decay=0.5, decay_after=2, epoch=epoch) for epoch in (0.0, 1.9, 2.0, 3.5)]
    assert rates == [2.0, 2.0, 1.0, 0.5]


def test_warm_up_is_a_line_to_the_rate():
    assert [rate(warmup=4, step=s) for s in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


@pytest.fixture
def model():
    return LanguageModel(7, hidden_size=5)


@pytest.fixture
def batch():
    return Batch(torch.randint(7, (6, 3)), torch.randint(7, (6, 3)))


def gradients(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("max_norm", [0.01, 1e6])
def test_clip_norm(model, batch, max_norm):
    TruncatedBPTT(6).accumulate(model, batch)
    before, parameters = gradients(model), list(model.parameters())
    ClipNorm(max_norm)(parameters, global_norm(parameters))
    assert global_norm(parameters) <= max_norm
    torch.testing.assert_close(gradients(model), before * min(1.0, max_norm / (float(before.norm()) + 1e-6)))


def test_clip_value(model, batch):
    TruncatedBPTT(6).accumulate(model, batch)
    before, parameters = gradients(model), list(model.parameters())
    ClipValue(0.01)(parameters, global_norm(parameters))
    torch.testing.assert_close(gradients(model), before.clamp(-0.01, 0.01))


@pytest.mark.parametrize(("clip", "name"), [(ClipNorm, "max_norm"), (ClipValue, "limit")])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_clips_that_mean_nothing(clip, name, value):
    with pytest.raises(InputError, match=rf"{name} is .*; expected a finite number above 0"):
        clip(value)


def test_a_step_is_backward_then_clip_then_step(model, batch):
    """The weights move by the clipped gradient; the norm that is told is the one before."""
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.full_like(p, 99.0)  # of somebody's earlier backward: not to be added to
    done = step(model, batch, None, gradient=TruncatedBPTT(6), clips=[ClipNorm(0.01)], optimizer=torch.optim.SGD(model.parameters(), 0.5))
    moved = torch.cat([(old - new).flatten() for old, new in zip(before, model.parameters(), strict=True)])
    torch.testing.assert_close(moved.norm(), torch.tensor(0.5 * 0.01), rtol=1e-3, atol=0)
    assert done.clipped
    with torch.no_grad():
        for p, old in zip(model.parameters(), before, strict=True):
            p.copy_(old)
            p.grad = None
    loss = TruncatedBPTT(6).accumulate(model, batch).loss
    assert done.norm == pytest.approx(float(global_norm(list(model.parameters()))), rel=1e-12)
    assert done.loss == pytest.approx(float(loss), rel=1e-12)


def test_values_are_clipped_before_the_norm_is_scaled(model, batch):
    step(
        model,
        batch,
        None,
        gradient=TruncatedBPTT(6),
        clips=[ClipValue(1e-3), ClipNorm(1e-3)],
        optimizer=torch.optim.SGD(model.parameters(), 0.0),
    )
    assert global_norm(list(model.parameters())) == pytest.approx(1e-3, rel=1e-2)


def test_a_step_that_no_clip_changed(model, batch):
    done = step(model, batch, None, gradient=TruncatedBPTT(6), clips=[ClipNorm(1e6)], optimizer=torch.optim.SGD(model.parameters(), 0.1))
    assert not done.clipped


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("input.weight", "the weight input.weight, before the step"),
        ("recurrence", "the weight recurrence.weight_ih_l0, before the step"),
        ("carry", "the carried state, before the step"),
        ("head", "the loss, at time step 2 of 6"),
    ],
)
def test_what_went_first(model, batch, spoil, words):
    carry = model.initial_state(3)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name == spoil or (spoil == "recurrence" and name == "recurrence.weight_ih_l0"):
                p.view(-1)[3] = torch.nan
            if spoil == "head" and name == "head.bias":
                p[0], p[1] = 3e38, -3e38  # their difference is too large for a float32
                batch.targets[:2], batch.targets[2:] = 0, 1
    if spoil == "carry":
        carry[0][0, 1, 2] = torch.inf
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(NonFinite, match=words):
        step(model, batch, carry, gradient=TruncatedBPTT(6), clips=[], optimizer=torch.optim.SGD(model.parameters(), 0.1))
    for p, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), old, rtol=0, atol=0, equal_nan=True)


class TestWhereInTheStack:
    def stack(self) -> tuple[LanguageModel, Batch]:
        """Two layers without an activation: h_t = W x_t + R h_{t−1}, with W and R multiples of 1."""
        from throughtime import cells, nn as tn

        torch.manual_seed(0)
        model = LanguageModel(7, hidden_size=4, cell=cells.Elman(cells.Identity()), num_layers=2).float()
        with torch.no_grad():
            for l, (w, r) in enumerate(((1.0, 1.0), (1.0, 1.0))):
                for name, x in ((f"weight_ih_l{l}", w), (f"weight_hh_l{l}", r)):
                    p = getattr(model.recurrence, name)
                    p.copy_(x * torch.eye(4))
        assert isinstance(model.recurrence, tn.Recurrence)
        return model, Batch(torch.randint(7, (6, 3)), torch.randint(7, (6, 3)))

    def said(self, model: LanguageModel, batch: Batch) -> str:
        with pytest.raises(NonFinite) as error:
            step(model, batch, None, gradient=TruncatedBPTT(6), clips=[], optimizer=torch.optim.SGD(model.parameters(), 0.1))
        return str(error.value)

    def test_a_state_is_named_by_layer_and_first_step(self):
        """R of the second layer is 1e25: h_1 has 1e25, and h_2 more than a float32 can have."""
        model, batch = self.stack()
        with torch.no_grad():
            model.recurrence.weight_hh_l1.mul_(1e25)
        assert self.said(model, batch) == "the hidden state of layer 1, at time step 2 of 6"

    def test_an_adjoint_is_named_by_layer_and_the_step_at_which_it_went(self):
        """The state stays 0, and the adjoint of step t has R^(5 − t): 1e25 at step 4, and too much at step 3."""
        model, batch = self.stack()
        with torch.no_grad():
            model.input.weight.zero_()
            for name, p in model.recurrence.named_parameters():
                if name.startswith("bias"):
                    p.zero_()
            model.recurrence.weight_hh_l0.mul_(1e25)
        said = self.said(model, batch)
        assert said.endswith(", whose adjoint went in layer 0 at time step 3 of 6, going back,"), said
        assert said.startswith("the gradient of ")


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad"])
def test_every_optimiser_moves_downhill(name, model, batch):
    optimizer = build_optimizer(OptimiserOptions(optimizer=name, lr=0.01, momentum=0.5 if name in ("sgd", "rmsprop") else 0.0), model)
    losses = [step(model, batch, None, gradient=TruncatedBPTT(6), clips=[], optimizer=optimizer).loss for _ in range(8)]
    assert losses[-1] < losses[0]


def test_sgd_with_momentum_is_the_formula(model, batch):
    optimizer = build_optimizer(OptimiserOptions(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01), model)
    p, v = model.head.weight, 0.0
    for _ in range(3):
        before = p.detach().clone()
        step(model, batch, None, gradient=TruncatedBPTT(6), clips=[], optimizer=optimizer)
        v = 0.9 * v + p.grad + 0.01 * before
        torch.testing.assert_close(p.detach(), before - 0.1 * v)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": float("nan")}, "`lr` is nan; expected a finite number above 0"),
        ({"clip": -1.0}, "`clip` is -1.0; expected a finite number of at least 0"),
        ({"momentum": 0.5}, "`momentum` is given with `optimizer='adam'`; expected sgd or rmsprop"),
        ({"momentum": 1.0, "optimizer": "sgd"}, r"`momentum` is 1.0; expected a number in \[0, 1\)"),
        ({"decay": 0.0}, r"`decay` is 0.0; expected a factor in \(0, 1\]"),
        ({"warmup": -1}, "`warmup` is -1"),
    ],
)
def test_numbers_that_mean_nothing(options, words):
    with pytest.raises(InputError, match=words):
        OptimiserOptions(**options).check()
