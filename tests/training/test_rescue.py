"""Stopped in the middle of something long: a validation, a step that another thread must save around; and what a run may be given anew."""

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from _tables import first
from safetensors.torch import load_file

from throughtime import InputError
from throughtime.training import RunFolder, _generators, _loop, begin, resumed, train
from throughtime.training._lock import LOCK, locked
from throughtime.training._report import draw_curves

HARD = {"network": {"dropout": 0.3, "initial": "random"}, "loop": {"steps": 12, "eval_every": 5, "gradient": "truncated:k1=3,k2=7"}}


def rows(run):
    timed = ("seconds", "tokens_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in run.metrics.read_text().splitlines()]


def same(a, b):
    for file in ("model.safetensors", "state.safetensors"):
        one, other = load_file(a.path / file), load_file(b.path / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert rows(a) == rows(b)


class After:
    """Says stop from the n-th time on that it is asked."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("asked", first([5], [4, 5, 9, 15]))
def test_a_validation_that_is_stopped_is_made_up_for(make_run, console, asked):
    """Asked in a validation's windows too, which draw random states: the run goes on to the same bits and rows."""
    whole, cut = make_run("whole", **HARD), make_run("cut", **HARD)
    assert train(whole, console=console).why == "finished"
    assert train(cut, console=console, stop=After(asked)).why == "interrupted"
    assert train(cut, console=console).why == "finished"
    same(whole, cut)


def test_final_scores_that_are_stopped_are_told(make_run, console):
    run = make_run(loop={"steps": 2, "eval_every": 100})
    ended = train(run, console=console, stop=lambda: "step 2  valid" in console.file.getvalue())
    assert (ended.why, ended.scores) == ("unmeasured", {})
    assert train(run, console=console).why == "finished"


@pytest.mark.parametrize("step", first([4], [1, 4, 8]))
def test_the_state_before_a_step_that_does_not_end_is_saved_from_aside(make_run, console, monkeypatch, step):
    """The step's gradient never ends; another thread saves. What is there goes on to the bits of a run that was never stopped."""
    whole, cut = make_run("whole", **HARD), make_run("cut", **HARD)
    train(whole, console=console)
    inside, never, real = threading.Event(), threading.Event(), _loop.step

    class GivenUpError(Exception):
        pass

    with resumed(cut) as training:

        def stuck(model, batch, carry, **options):
            if training.progress.step + 1 == step:
                inside.set()
                assert never.wait(60)
                raise GivenUpError
            return real(model, batch, carry, **options)

        monkeypatch.setattr(_loop, "step", stuck)
        saved = []

        def rescue():
            inside.wait(60)
            saved.append(training.rescue())
            never.set()

        aside = threading.Thread(target=rescue)
        aside.start()
        with pytest.raises(GivenUpError):
            training.run(console)
        aside.join()
    assert saved == [step - 1]
    monkeypatch.undo()
    train(cut, console=console)
    same(whole, cut)


@pytest.mark.slow
def test_no_step_ends_after_a_rescue(make_run, console):
    run = make_run()
    with resumed(run) as training:
        before = [p.clone() for p in training.model.parameters()]
        assert training.rescue() == 0
        going = threading.Thread(target=training.run, args=(console,), daemon=True)
        going.start()
        going.join(0.5)
        assert going.is_alive()
        assert all(map(torch.equal, before, training.model.parameters()))
        training.standing.changing.release()
        going.join(60)
    assert not going.is_alive()


def test_the_process_is_left_as_it_was(make_run, console):
    run = make_run(loop={"threads": 1, "kernels": "plain", "seed": 5})
    from throughtime.kernels import get_kernels

    torch.set_num_threads(2)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    train(run, console=console)
    begin(run)
    assert torch.get_num_threads() == 2
    assert get_kernels() == "fast"
    assert torch.equal(torch.get_rng_state(), state)


class FakeCuda:
    """Two devices whose generators are numbers."""

    def __init__(self):
        self.states = [torch.tensor([3], dtype=torch.uint8), torch.tensor([4], dtype=torch.uint8)]

    def is_initialized(self):
        return True

    def device_count(self):
        return len(self.states)

    def get_rng_state(self, i):
        return self.states[i].clone()

    def set_rng_state(self, state, i):
        self.states[i] = state.clone()


def test_every_devices_generator_is_saved_and_put_back(make_run, monkeypatch):
    fake = FakeCuda()
    torch_with_cuda = SimpleNamespace(
        cuda=fake, get_rng_state=torch.get_rng_state, set_rng_state=torch.set_rng_state, backends=torch.backends
    )
    monkeypatch.setattr(_generators, "torch", torch_with_cuda)
    run = make_run()
    with resumed(run) as training:
        training.save()
    fake.states = [torch.zeros(1, dtype=torch.uint8), torch.zeros(1, dtype=torch.uint8)]
    with resumed(run):
        assert [int(state) for state in fake.states] == [3, 4]
    saved = load_file(run.state)
    assert {name for name in saved if name.startswith("generator.")} == {"generator.cpu", "generator.cuda:0", "generator.cuda:1"}
    fake.states.pop()  # a machine with one device fewer
    with resumed(run):
        assert int(fake.states[0]) == 3


def test_a_run_that_diverges_says_so(make_run, console):
    run = make_run(network={"cell": "rnn"}, optimiser={"optimizer": "sgd", "lr": 30.0, "clip": 0.0}, loop={"steps": 30, "eval_every": 30})
    ended = train(run, console=console)
    assert ended.diverged is not None
    assert ended.diverged == rows(run)[-1]["nats"]
    assert "best" not in console.file.getvalue()
    assert train(make_run("good"), console=console).diverged is None


def test_every_row_has_its_time(make_run, console):
    run = make_run()
    train(run, console=console)
    told = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert {row["kind"] for row in told} == {"train", "valid"}
    seconds = [row["seconds"] for row in told]
    assert seconds == sorted(seconds)


def test_rows_of_somebody_else_do_not_spoil_the_picture(make_run, console):
    run = make_run()
    with run.metrics.open("w") as file:
        for row in ({"kind": "train", "step": 1}, {"kind": "valid", "step": 2, "nats": 3}, {"kind": "flow", "step": 3}, {"step": 4}, [1]):
            file.write(json.dumps(row) + "\n")
    train(run, console=console)
    draw_curves(run, 1.0)
    assert run.curves.is_file()


class TestPatience:
    @pytest.mark.slow
    def test_it_stops_when_nothing_becomes_better(self, make_run, console):
        """With a rate that only makes it worse the first validation is the best."""
        options = {"optimiser": {"lr": 0.5}, "loop": {"steps": 100, "eval_every": 2, "patience": 3}}
        run = make_run(**options)
        ended = train(run, console=console)
        validated = [row for row in rows(run) if row["kind"] == "valid"]
        best = min(range(len(validated)), key=lambda i: validated[i]["nats"])
        assert len(validated) == best + 1 + 3
        assert ended.step == validated[-1]["step"] < 100
        assert train(run, console=console).step == ended.step
        more = RunFolder(run.path, replace(run.config, loop=replace(run.config.loop, patience=4)))
        assert train(more, console=console).step > ended.step


@pytest.mark.slow
def test_samples_on_the_way_change_nothing(make_run, console):
    choice = {"network": {"dropout": 0.3, "initial": "random"}}
    quiet, writing = make_run("quiet", **choice), make_run("writing", network=choice["network"], loop={"sample_every": 4})
    train(quiet, console=console)
    before = console.file.getvalue()
    train(writing, console=console)
    same(quiet, writing)
    assert "writes" not in before
    assert console.file.getvalue().count("writes") == 3


class TestLock:
    def test_a_second_holder_is_refused(self, tmp_path):
        with locked(tmp_path), pytest.raises(InputError, match=r"is in use by process \d+; expected one process a run"), locked(tmp_path):
            pass
        with locked(tmp_path):
            pass

    def test_a_file_that_was_left_means_nothing(self, tmp_path):
        (tmp_path / LOCK).write_text("999999\n")
        with locked(tmp_path):
            pass
