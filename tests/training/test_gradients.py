"""Gradient methods by name: what a spec stands for, what it cannot be, and a run with each that is stopped and gone on with."""

import json
from dataclasses import dataclass
from typing import Literal, final

import pytest
import torch
from safetensors.torch import load_file

from throughtime import InputError
from throughtime.gradients import (
    AbstractGradient,
    AdaptiveBPTT,
    CheckpointedBPTT,
    FullBPTT,
    RandomTruncatedBPTT,
    SlidingBPTT,
    TruncatedBPTT,
)
from throughtime.training import METHODS, OptimiserOptions, ShellMethod, method_of, train
from throughtime.training._gradients import _build, _options, with_clip

SHORT = {  # options that bring history, draws and estimates into a run of a few steps of 8
    "truncated": ":k1=3,k2=11",
    "sliding": ":lags=11",
    "random-truncated": ":mean_length=4",
    "adaptive": ":tolerance=0.9,max_lags=11,every=3",
}


@pytest.mark.parametrize(
    ("spec", "method"),
    [
        ("full", FullBPTT()),
        ("full:clip_adjoint=0.5", FullBPTT(0.5)),
        ("truncated:k1=16,k2=64", TruncatedBPTT(16, 64)),
        ("truncated:k1=16,k2=none", TruncatedBPTT(16)),
        ("sliding:lags=32", SlidingBPTT(32)),
        ("random-truncated:mean_length=20,alpha=6,seed=3", RandomTruncatedBPTT(20.0, 6.0, 3)),
        ("adaptive:tolerance=0.1,max_lags=99,k1=1", AdaptiveBPTT(0.1, 99, k1=1)),
        ("checkpointed:budget=64MB", CheckpointedBPTT(budget="64MB")),
        ("checkpointed:every=8", CheckpointedBPTT(every=8)),
    ],
)
def test_what_a_spec_stands_for(spec, method):
    assert method_of(spec) == method


def test_the_usual_options_of_every_method_build_it():
    assert all(type(method_of(row.spec)) is row.method for row in METHODS)
    assert len({row.name for row in METHODS}) == len(METHODS)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("bptt", r"'bptt' names no gradient method; expected one of full, truncated, sliding.*follow a colon: truncated:k1=16"),
        ("", "'' names no gradient method"),
        ("truncated:k3=1", r"'k3' is no option of truncated; expected truncated:OPTION=VALUE.*Options: k1, k2, clip_adjoint\."),
        ("truncated:k1", "'k1' has no value; expected truncated:OPTION=VALUE"),
        ("truncated:k1=4,k1=5", "'k1' is given twice"),
        ("truncated:k1=four", "k1 of the gradient method truncated is 'four'; expected an integer. Such as: truncated:k1=16,k2=32"),
        ("truncated:k1=4,k2=x", "k2 of the gradient method truncated is 'x'; expected an integer or none"),
        ("truncated", "the gradient method truncated is given without k1; expected truncated:OPTION=VALUE"),
        ("adaptive", "given without tolerance and max_lags"),
        ("truncated:k1=0", "k1 is 0; expected an integer from 1"),
        ("adaptive:tolerance=1.5,max_lags=9", "tolerance is 1.5; expected a relative bias"),
        ("full:clip_adjoint=abc", "expected a number or none"),
    ],
)
def test_specs_that_cannot_be(spec, sentence):
    with pytest.raises(InputError, match=sentence):
        method_of(spec)


@final
@dataclass(frozen=True)
class Odd(AbstractGradient):
    """Fields of the other types, and no adjoint."""

    budget: int | str
    exact: bool = False
    order: Literal["first", "second"] = "first"
    agrees = "approximately"

    def accumulate(self, model, batch, carry=None):
        raise NotImplementedError


def test_fields_of_every_type():
    row = ShellMethod("odd", Odd, "budget=64MB")
    built = [_build(row, _options(row, "odd", rest)) for rest in ("budget=64MB", "budget=64,exact=TRUE", "budget=1,order=second")]
    assert built == [Odd("64MB"), Odd(64, True), Odd(1, order="second")]
    with pytest.raises(InputError, match="exact of the gradient method odd is 'yes'; expected true or false"):
        _options(row, "odd", "exact=yes")
    with pytest.raises(InputError, match="order of the gradient method odd is 'third'; expected first or second"):
        _options(row, "odd", "order=third")


def test_the_clip_at_each_step_goes_to_the_method():
    assert with_clip(SlidingBPTT(4), 0.0) == SlidingBPTT(4)
    assert with_clip(SlidingBPTT(4), 0.5) == SlidingBPTT(4, 0.5)
    with pytest.raises(InputError, match=r"`clip_step` is 0.5 and `gradient` is Odd.*no gradient back through time to clip"):
        with_clip(Odd(1), 0.5)
    with pytest.raises(InputError, match="expected the clip in one of them"):
        with_clip(FullBPTT(0.1), 0.5)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n != "random-truncated" else n for n in SHORT])
def test_a_run_that_is_stopped_goes_on_to_the_same_bits(make_run, console, name):
    """The history, the draws and the window that a method keeps are saved with the run."""
    options = {"network": {"initial": "learnable", "dropout": 0.2}, "loop": {"gradient": name + SHORT[name], "steps": 14}}
    whole, cut = (make_run(folder, **options) for folder in ("whole", "cut"))
    train(whole, console=console)
    for patience in (0, 3, 5):
        left = iter(range(patience))
        train(cut, console=console, stop=lambda left=left: next(left, None) is None)
    train(cut, console=console)
    for file in ("model.safetensors", "state.safetensors"):
        one, other = load_file(whole.path / file), load_file(cut.path / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[k], other[k]) for k in one)
    assert any(k.startswith("carry.kept") for k in one)


def test_the_report_tells_what_the_method_tells(make_run, console):
    run = make_run(loop={"gradient": "adaptive:tolerance=0.9,max_lags=11,every=3", "steps": 10})
    train(run, console=console)
    (row,) = [row for row in map(json.loads, run.metrics.read_text().splitlines()) if row["kind"] == "train"]
    assert 1 <= row["window"] <= 11
    assert row["window"] == 11 or row["bias_bound"] < 0.9


def test_a_clip_given_anew_does_not_fit_what_was_kept(make_run, console):
    from dataclasses import replace

    from throughtime.training import RunFolder

    run = make_run(loop={"gradient": "sliding:lags=11"})
    left = iter(range(3))
    train(run, console=console, stop=lambda: next(left, None) is None)
    other = RunFolder(run.path, replace(run.config, optimiser=OptimiserOptions(clip_step=0.5)))
    with pytest.raises(
        InputError, match=r"saved by SlidingBPTT\(lags=11, clip_adjoint=None\) and is to go on with SlidingBPTT.*`clip_step` as"
    ):
        train(other, console=console)
