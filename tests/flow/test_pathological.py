"""What is told of networks that something is wrong with: the verdict, advice that helps when it is followed, a page that shows numbers."""

import math
import re
from dataclasses import replace

import pytest
import torch
from _pathological import CASES, H, V, network, text
from _tables import first

import throughtime as tt
from throughtime import NonFinite, cells, nn
from throughtime.cells import GRU, Elman
from throughtime.data import Batch
from throughtime.gradients import FullBPTT
from throughtime.models import LanguageModel
from throughtime.training import ClipNorm

BY_NAME = {case.name: case for case in CASES}
CHEAP = [case for case in CASES if case.name not in ("chaotic tanh", "exploding tanh", "relu beyond float32", "dead lower layer")]


@pytest.fixture(autouse=True)
def _as_people_train():
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("case", first(CHEAP, CASES), ids=lambda case: case.name)
def test_the_verdict_and_the_page(case, tmp_path):
    model, batch = case.make()
    if case.state == "refused":
        with pytest.raises(NonFinite, match=case.words):
            tt.gradient_flow(model, batch)
        return
    flow = tt.gradient_flow(model, batch)
    assert flow.verdict.state == case.state
    assert case.words in flow.verdict.sentence
    told = [flow.verdict.sentence, *(a.told(reader) for a in flow.verdict.advice for reader in ("python", "shell"))]
    assert not re.search(r"\b(nan|inf|None)\b", " ".join(told))
    for advice in flow.verdict.advice:
        assert all(math.isfinite(x) for x in (advice.value or 0.0, *advice.because.values()))
    assert not (case.state == "exploding" and any(a.about == "window" for a in flow.verdict.advice))
    assert (flow.precision == "float64") == bool(flow.again)
    flow.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    shown = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL)
    limits = r'"half_life":\[.*?\]\]\]|"exponents":\[.*?\]'  # which may be without a limit; the page says so in words
    assert not re.search(r"\b(NaN|nan|Infinity|inf|undefined|None)\b", re.sub(limits, "", shown))
    assert ("Checked:" in shown) == (flow.lags.closes and case.name != "a gradient beyond float64")
    if flow.again:
        assert "in float64" in shown


class TestAStream:
    """A part of longer streams is judged by how far its gradient reaches, not by how much of it was measured."""

    def states(self, model: LanguageModel, batch: Batch) -> tuple[str, str]:
        """As whole sequences, and as a part of streams."""
        state = tuple(s.detach() for s in model.recurrence(model.enter(batch))[1])
        return tuple(tt.gradient_flow(model, batch, carry=c, windows=False).verdict.state for c in (None, state))

    def test_a_reach_of_some_twenty_steps_is_healthy_there(self):
        assert self.states(network(tt.cells.LSTM(), nn.ForgetBias(1.0)), text(96)) == ("vanishing", "healthy")

    def test_one_of_a_few_steps_is_not(self):
        assert self.states(network(Elman()), text()) == ("vanishing", "vanishing")


class TestFollowedAdviceHelps:
    def advised(self, name: str, about: str):
        model, batch = BY_NAME[name].make()
        before = tt.gradient_flow(model, batch)
        return model, batch, before, next(a for a in before.verdict.advice if a.about == about)

    def started_as(self, model: LanguageModel, rule: str) -> None:
        """The recurrence as the advice's object starts it."""
        stack = model.recurrence
        with torch.no_grad():
            eval(rule, {"nn": nn})(stack.cell, [stack.parameters_of(ell) for ell in range(stack.num_layers)])

    @pytest.mark.parametrize(
        "name",
        first(["exploding relu"], ["exploding relu", "relu beyond float32", "exploding tanh", "chaotic tanh", "a gradient beyond float64"]),
    )
    def test_an_exploding_start(self, name):
        model, batch, _, advice = self.advised(name, "start")
        self.started_as(model, advice.python)
        after = tt.gradient_flow(model, batch)
        assert after.verdict.state in ("healthy", "vanishing")
        assert after.precision == "float32"

    @pytest.mark.parametrize(
        ("name", "about"),
        first(
            [("vanishing tanh", "start"), ("forget gate shut", "gates")],
            [
                ("vanishing tanh", "start"),
                ("no recurrence", "start"),
                ("one unit", "start"),
                ("forget gate shut", "gates"),
                ("update gate shut", "gates"),
                ("a loss at the last step alone", "gates"),
                ("constant input", "gates"),
            ],
        ),
    )
    def test_a_vanishing_one(self, name, about):
        """Of what a loss leans on at lag 0, at least ten times as much arrives at lag 12."""
        model, batch, before, advice = self.advised(name, about)
        self.started_as(model, advice.python)
        share = lambda flow: float(flow.adjoint.profile[12] / flow.adjoint.profile[0])
        assert share(tt.gradient_flow(model, batch)) > 10 * share(before)

    @pytest.mark.slow
    def test_a_cell_with_a_gate_in_place_of_one_without(self):
        _, batch, before, advice = self.advised("vanishing tanh", "gates")
        cell, rule = eval(advice.python, {"nn": nn, "cells": cells})
        after = tt.gradient_flow(network(cell, rule), batch)
        assert after.verdict.horizon is None or after.verdict.horizon > 5 * before.verdict.horizon

    @pytest.mark.parametrize("name", first(["saturated tanh"], ["saturated tanh", "dead relu", "dead lower layer"]))
    def test_a_saturated_start(self, name):
        model, batch, before, advice = self.advised(name, "start")
        self.started_as(model, advice.python)
        after = tt.gradient_flow(model, batch)
        assert after.verdict.state != "saturated"
        assert float(after.gates.saturation.mean()) < 0.8 * float(before.gates.saturation.mean())
        assert advice.because["saturation"] > 0.5

    def test_inputs_scaled_down(self):
        model, batch, _, _ = self.advised("huge inputs", "start")
        model.input.weight.data /= model.input.weight.data.std()
        assert tt.gradient_flow(model, batch).verdict.state != "saturated"

    @pytest.mark.slow
    def test_a_stuck_gate(self):
        model, batch, before, advice = self.advised("update gate stuck", "gates")
        self.started_as(model, advice.python)
        after = tt.gradient_flow(model, batch)
        assert after.verdict.state == "healthy"
        through_time = lambda flow: sum(flow.lags.gradient[name] for name in flow.lags.gradient if name.startswith("recurrence"))
        assert through_time(after) > 1e3 * through_time(before)

    @pytest.mark.slow
    def test_zero_weights(self):
        model, batch, _, advice = self.advised("zero weights", "start")
        self.started_as(model, advice.python)
        for p in model.head.parameters():
            torch.nn.init.uniform_(p, -(H**-0.5), H**-0.5)
        assert tt.gradient_flow(model, batch).adjoint.profile[0] > 0

    @pytest.mark.slow
    def test_a_clip_keeps_the_weights_finite_and_with_the_start_it_learns(self):
        """Relu units whose states grow 4.8 times a step: one unclipped step of 0.1 leaves no finite weight."""
        model, batch, before, clip = self.advised("exploding relu", "clip")
        assert not math.isfinite(train(model, batch, 2, 0.1, None))
        model, _, _, _ = self.advised("exploding relu", "clip")
        assert math.isfinite(train(model, batch, 20, 0.1, clip.value))
        start = next(a for a in before.verdict.advice if a.about == "start")
        assert before.verdict.advice[0] is start  # a clip alone does not mend it
        model, _ = BY_NAME["exploding relu"].make()
        self.started_as(model, start.python)
        assert train(model, batch, 60, 0.1, clip.value) < before.guess

    @pytest.mark.slow
    def test_a_lower_rate_where_the_network_has_diverged(self):
        """Adam at a rate of 3 puts every guess out of reach; from weights of before, a tenth and a clip of 1 bring the loss below guessing."""
        batch, far = text(), network(GRU())
        train(far, batch, 40, 3.0, None, torch.optim.Adam)
        flow = tt.gradient_flow(far, batch)
        assert flow.verdict.state == "diverged"
        assert "from before" in flow.verdict.advice[0].sentence
        near = network(GRU())
        train(near, batch, 40, 0.3, 1.0, torch.optim.Adam)
        assert tt.gradient_flow(near, batch).loss < flow.guess


def train(model: LanguageModel, batch: Batch, steps: int, rate: float, clip: float | None, kind=torch.optim.SGD) -> float:
    """The loss after some steps on one batch."""
    optimizer, parameters = kind(model.parameters(), lr=rate), list(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        FullBPTT().accumulate(model, batch)
        if clip is not None:
            ClipNorm(clip)(parameters, torch.nn.utils.get_total_norm([p.grad for p in parameters]))
        optimizer.step()
    return float(FullBPTT().accumulate(model, batch).loss)


def test_guessing_is_weighed_as_the_losses_are():
    weights = torch.rand(48, 4)
    weights[3] = 0
    model, batch = network(Elman()), replace(text(), weights=weights)
    model.head.weight.data.zero_()
    model.head.bias.data.zero_()  # which guesses
    flow = tt.gradient_flow(model, batch)
    assert flow.guess == pytest.approx(flow.loss, rel=1e-5)
    assert flow.loss == pytest.approx(math.log(V) * float(weights.sum()) / (47 * 4), rel=1e-5)


def test_a_network_that_float32_cannot_follow_is_measured_in_float64_and_says_so():
    model, batch = BY_NAME["chaotic tanh"].make()
    flow = tt.gradient_flow(model, batch)
    assert flow.lags.error < 1e-10  # the products of 128 Jacobians are not cancelled: rounding of some 100 operations each
    assert flow.again.startswith("in float32, the parts by lag ")
    again = tt.gradient_flow(model.double(), batch)
    assert again.verdict.state == "exploding"
    assert again.lags.closes
