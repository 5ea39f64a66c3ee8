"""Looks at the gradient while training: what they tell, and that they change nothing."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from throughtime import Batch, InputError, LanguageModel, NonFinite
from throughtime.cells import GRU, LSTM, Elman
from throughtime.flow import Spectra, gradient_flow
from throughtime.gradients import FullBPTT, TruncatedBPTT
from throughtime.nn import Random
from throughtime.training import _loop, train
from throughtime.training._watch import FlowRow, measure_flow

HARD = {"network": {"dropout": 0.2, "initial": "random", "layers": 2}, "loop": {"seed": 3}}


def options(**loop):
    return HARD | {"loop": HARD["loop"] | loop}


def rows(run, kind="flow"):
    return [row for row in map(json.loads, run.metrics.read_text().splitlines()) if row["kind"] == kind]


@pytest.mark.slow
def test_it_changes_no_bit_of_the_run(make_run, console):
    plain, watched = make_run("plain", **HARD), make_run("watched", **options(watch_flow=2))
    for run in (plain, watched):
        train(run, console=console)
    one, other = load_file(plain.state), load_file(watched.state)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [row["step"] for row in rows(watched)] == [2, 4, 6, 8, 10, 12]
    assert rows(plain) == []
    for row, same in zip(rows(plain, "train"), rows(watched, "train"), strict=True):
        assert (row["loss"], row["gradient_norm"]) == (same["loss"], same["gradient_norm"])


@pytest.mark.slow
def test_a_run_cut_short_tells_the_same_looks(make_run, console):
    whole, cut = make_run("whole", **options(watch_flow=1)), make_run("cut", **options(watch_flow=1))
    train(whole, console=console)
    left = iter(range(5))
    train(cut, console=console, stop=lambda: next(left, None) is None)
    with cut.metrics.open("a") as file:
        file.write(json.dumps({"kind": "flow", "step": 11, "profile": [1.0], "horizon": None}) + "\n")
    train(cut, console=console)
    assert rows(whole) == rows(cut)


def test_the_rows_are_the_flow_of_the_first_two_streams_with_the_state_carried_in(make_run, console, monkeypatch):
    seen = []

    def kept(model, batch, carry, step):
        row = measure_flow(model, batch, carry, step)
        state = None if carry is None else tuple(s[:, :2] for s in carry.state)
        part = Batch(batch.inputs[:, :2], batch.targets[:, :2], fresh=batch.fresh[:2])
        with torch.random.fork_rng():
            seen.append((row, gradient_flow(model, part, carry=state, jacobians=Spectra(exponents=1))))
        return row

    monkeypatch.setattr(_loop, "measure_flow", kept)
    run = make_run(network={"dropout": 0.2}, loop={"watch_flow": 3})
    train(run, console=console)
    assert len(seen) == 4
    for told, (row, flow) in zip(rows(run), seen, strict=True):
        assert told == row.as_dict()
        assert row.profile == pytest.approx(flow.adjoint.profile.tolist(), rel=1e-5)
        assert (row.horizon, row.decay) == (flow.verdict.horizon, pytest.approx(flow.verdict.decay, rel=1e-5))
        assert row.exponent == pytest.approx(float(flow.jacobians.exponents[0]), rel=1e-6)
        assert told["profile"] == pytest.approx(row.profile, rel=1e-5)
        assert len(row.profile) == 8


def test_a_look_starts_where_its_step_started(make_run, console, monkeypatch):
    carried = []
    monkeypatch.setattr(
        _loop, "measure_flow", lambda model, batch, carry, step: carried.append(carry) or measure_flow(model, batch, carry, step)
    )
    train(make_run(loop={"watch_flow": 1}), console=console)
    assert [carry is None for carry in carried] == [True] + [False] * 11


@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_a_look_touches_nothing(cell):
    model = LanguageModel(7, cell=cell, hidden_size=5, num_layers=2, dropout=0.3, initial=Random())
    ids = torch.randint(7, (10, 4))
    batch = Batch(ids[:-1], ids[1:], mask=torch.rand(9, 4) < 0.9, fresh=torch.tensor([True, False, False, True]))
    carry = FullBPTT().accumulate(model, batch).carry
    before = (
        [p.grad.clone() for p in model.parameters()],
        [p.detach().clone() for p in model.parameters()],
        torch.get_rng_state(),
        carry.state[0].clone(),
    )
    row = measure_flow(model, batch, carry, 5)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before[2])
    assert torch.equal(carry.state[0], before[3])
    for p, grad, value in zip(model.parameters(), *before[:2], strict=True):
        assert torch.equal(p.grad, grad)
        assert torch.equal(p, value)
    assert len(row.profile) <= 9


def test_one_stream_and_a_carry_that_keeps_more():
    model = LanguageModel(7, hidden_size=5)
    ids = torch.randint(7, (10, 1))
    batch = Batch(ids[:-1], ids[1:])
    carry = TruncatedBPTT(3, 5).accumulate(model, batch).carry
    assert carry.kept
    assert measure_flow(model, batch, carry, 1).profile[0] > 0


def test_the_board_gets_the_profile_at_doubling_lags():
    row = FlowRow(4, (1.0, 0.5, 0.25, 0.1, 0.05, math.nan), None, 0.5, -0.7)
    assert row.scalars() == {
        "profile/lag 0000": 1.0, "profile/lag 0001": 0.5, "profile/lag 0002": 0.25, "profile/lag 0004": 0.05, "horizon": 6.0, "decay": 0.5, "exponent": -0.7,
    }  # fmt: skip
    assert replace(row, decay=math.inf).as_dict() == {
        "kind": "flow", "step": 4, "horizon": None, "profile": [1.0, 0.5, 0.25, 0.1, 0.05, None], "decay": None, "exponent": -0.7,
    }  # fmt: skip


@pytest.mark.slow
def test_events_and_picture(make_run, console, pictures):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plain, watched = make_run("plain"), make_run("watched", loop={"watch_flow": 6})
    for run in (plain, watched):
        train(run, console=console)
    board = EventAccumulator(str(watched.path)).Reload()
    assert [event.step for event in board.Scalars("flow/horizon")] == [6, 12]
    assert board.Scalars("flow/profile/lag 0004")[1].value == pytest.approx(rows(watched)[1]["profile"][4], rel=1e-5)
    assert board.Scalars("flow/exponent")[0].value == pytest.approx(rows(watched)[0]["exponent"], rel=1e-5)
    assert picture_height(watched.curves) > picture_height(plain.curves)


def picture_height(path) -> int:
    return int.from_bytes(path.read_bytes()[20:24], "big")  # PNG's header


def test_weights_that_are_not_finite_are_left_for_the_next_step_to_tell(make_run, console, monkeypatch):
    def spoiled(*_):
        raise NonFinite("the hidden state")

    monkeypatch.setattr(_loop, "measure_flow", spoiled)
    run = make_run(loop={"watch_flow": 1})
    assert train(run, console=console).why == "finished"
    assert rows(run) == []


class TestOmega:
    @pytest.mark.slow
    def test_it_is_added_to_the_gradient(self, make_run, console):
        cell = {"cell": "rnn", "layers": 2}
        plain, same, regular = (
            make_run(name, network=cell, optimiser={"omega": weight}) for name, weight in (("a", 0.0), ("b", 0.0), ("c", 0.5))
        )
        for run in (plain, same, regular):
            train(run, console=console)
        one, again, other = (load_file(run.state)["model.recurrence.weight_hh_l0"] for run in (plain, same, regular))
        assert torch.equal(one, again)
        assert not torch.allclose(one, other)

    @pytest.mark.slow
    def test_a_run_goes_on_with_what_the_method_inside_keeps(self, make_run, console):
        choice = {"network": {"cell": "rnn"}, "optimiser": {"omega": 0.5}, "loop": {"gradient": "truncated:k1=4,k2=12"}}
        whole, cut = make_run("whole", **choice), make_run("cut", **choice)
        train(whole, console=console)
        left = iter(range(5))
        train(cut, console=console, stop=lambda: next(left, None) is None)
        assert any(name.startswith("carry.kept") for name in load_file(cut.state))
        train(cut, console=console)
        one, other = load_file(whole.state), load_file(cut.state)
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_what_it_is_not_for(self, make_run):
        with pytest.raises(InputError, match=r"`omega` is given with `cell='gru'`; expected `cell='rnn'`.*`forget_bias` or `chrono`"):
            make_run(optimiser={"omega": 1.0})
        with pytest.raises(InputError, match=r"`omega` is -1.0; expected a finite number of at least 0"):
            make_run("other", network={"cell": "rnn"}, optimiser={"omega": -1.0})
        with pytest.raises(InputError, match=r"`watch_flow` is -1; expected a finite number of at least 0"):
            make_run("third", loop={"watch_flow": -1})
