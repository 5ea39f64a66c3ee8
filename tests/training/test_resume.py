"""Nothing is lost: a run that was stopped anywhere reaches the same bits as one that never was."""

import json
from dataclasses import replace

import pytest
import torch
from _tables import first
from safetensors.torch import load_file

from throughtime import InputError, LanguageModel, NonFinite, TokenStream
from throughtime.data import Batch
from throughtime.gradients import TruncatedBPTT
from throughtime.training import RunFolder, train
from throughtime.training._generators import generator_states
from throughtime.training._standing import Standing
from throughtime.training._state import Progress, load_state, save_state

HARD = {"network": {"dropout": 0.3, "initial": "random", "layers": 2}, "loop": {"steps": 23}}


def rows(run: RunFolder) -> list[dict]:
    timed = ("seconds", "tokens_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in run.metrics.read_text().splitlines()]


def same(a: RunFolder, b: RunFolder) -> None:
    for file in ("model.safetensors", "state.safetensors"):
        one, other = load_file(a.path / file), load_file(b.path / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert rows(a) == rows(b)


@pytest.mark.parametrize("optimizer", first(["nadam"], ["adam", "nadam", "sgd", "rmsprop", "adagrad"]))
def test_stopped_after_every_few_steps(make_run, console, optimizer):
    optimiser = {"optimizer": optimizer, "schedule": "cosine", "clip": 0.3}
    whole, cut = (make_run(name, optimiser=optimiser, **HARD) for name in ("whole", "cut"))
    assert train(whole, console=console).why == "finished"
    for patience in (0, 3, 4, 0, 100):
        left = iter(range(patience))
        ended = train(cut, console=console, stop=lambda left=left: next(left, None) is None)
    assert ended.why in ("interrupted", "finished")
    train(cut, console=console)
    same(whole, cut)


def test_what_was_written_after_the_state_is_dropped(make_run, console):
    """As after a kill: rows and best weights of steps that the saved state has not seen."""
    whole, cut = (make_run(name, **HARD) for name in ("whole", "cut"))
    train(whole, console=console)
    left = iter(range(6))
    train(cut, console=console, stop=lambda: next(left, None) is None)
    with cut.metrics.open("a") as file:
        file.write('{"kind": "train", "step": 10, "loss": 99}\n{"kind": "valid", "st')
    train(cut, console=console)
    same(whole, cut)


@pytest.mark.slow
def test_a_finished_run_says_so_and_goes_on_with_a_larger_budget(make_run, console):
    run, longer = make_run("run"), make_run("longer", loop={"steps": 20})
    train(run, console=console)
    assert train(run, console=console).step == 12
    assert "has finished already, after 12 steps; a larger budget" in console.file.getvalue()
    more = RunFolder(run.path, replace(run.config, loop=replace(run.config.loop, steps=20)))
    assert train(more, console=console).step == 20
    train(longer, console=console)
    one, other = load_file(more.state), load_file(longer.state)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_state_with_a_history_that_the_method_keeps(tmp_path):
    model, gradient = LanguageModel(7, hidden_size=5), TruncatedBPTT(2, 5)
    optimizer = torch.optim.Adam(model.parameters())
    stream = TokenStream(torch.randint(7, (60,)), batch_size=2, window=6)
    carry = gradient.accumulate(model, stream[0], None).carry
    optimizer.step()
    assert carry.kept
    save_state(tmp_path / "state.safetensors", model, optimizer, carry, generator_states(), Progress(step=1, best=2.5))
    other = LanguageModel(7, hidden_size=5)
    again, progress, _ = load_state(tmp_path / "state.safetensors", other, torch.optim.Adam(other.parameters()))
    assert (progress.step, progress.best, again.made_by) == (1, 2.5, repr(gradient))
    for m in (model, other):
        m.zero_grad()
    gradient.accumulate(model, stream[1], carry)
    gradient.accumulate(other, stream[1], again)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(model.parameters(), other.parameters(), strict=True))


class TestSavingNowAndThen:
    def saved(self, run: RunFolder, console, monkeypatch) -> list[int]:
        """The steps after which the state is saved."""
        found, real = [], Standing.save

        def save(self: Standing) -> None:
            found.append(self.progress.step)
            real(self)

        monkeypatch.setattr(Standing, "save", save)
        train(run, console=console)
        monkeypatch.undo()
        return found

    def test_after_a_number_of_steps(self, make_run, console, monkeypatch):
        run = make_run(loop={"save_every": "4steps", "eval_every": 5, "steps": 14})
        assert self.saved(run, console, monkeypatch) == [4, 5, 8, 10, 12, 14]

    def test_after_a_time(self, make_run, console, monkeypatch):
        seldom, always = (make_run(name, loop={"save_every": name, "steps": 7}) for name in ("1h", "0s"))
        assert self.saved(seldom, console, monkeypatch) == [5, 7]
        assert self.saved(always, console, monkeypatch) == list(range(1, 8))

    def test_after_either(self, make_run, console, monkeypatch):
        seldom, always = (make_run(name, loop={"save_every": f"4 steps, {name}", "steps": 7}) for name in ("1h", "0s"))
        assert self.saved(seldom, console, monkeypatch) == [4, 5, 7]
        assert self.saved(always, console, monkeypatch) == list(range(1, 8))

    def test_a_run_of_before_there_were_units_goes_on(self, make_run, console):
        """Its config.json has a number of seconds."""
        run, whole = (make_run(name, loop={"save_every": seconds}) for name, seconds in (("run", 60), ("whole", "1m")))
        assert json.loads((run.path / "config.json").read_text())["run"]["loop"]["save_every"] == 60
        left = iter(range(4))
        assert train(run, console=console, stop=lambda: next(left, None) is None).why == "interrupted"
        train(RunFolder.open(run.path), console=console)
        train(whole, console=console)
        same(run, whole)


def test_a_loss_that_is_not_finite_leaves_the_last_good_state(make_run, console, monkeypatch):
    run = make_run(loop={"save_every": 1000.0, "eval_every": 1000})
    from throughtime.training import _loop

    real, count = _loop.step, iter(range(100))

    def spoiled(model: LanguageModel, batch: Batch, *args: object, **kwargs: object):
        if next(count) == 7:
            raise NonFinite("the loss, at time step 3 of 8")
        return real(model, batch, *args, **kwargs)

    monkeypatch.setattr(_loop, "step", spoiled)
    with pytest.raises(
        NonFinite, match=r"not a finite number at step 8: the loss, at time step 3 of 8 went first\. The last good state, after step 7"
    ):
        train(run, console=console)
    monkeypatch.undo()
    train(run, console=console)
    other = make_run("other", loop={"save_every": 1000.0, "eval_every": 1000})
    train(other, console=console)
    one, two = load_file(run.state), load_file(other.state)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_step_that_is_far_too_long(make_run, console):
    run = make_run(network={"cell": "rnn", "activation": "relu"}, optimiser={"optimizer": "sgd", "lr": 1e30, "clip": 0.0})
    with pytest.raises(NonFinite, match=r"at step \d+: the .* went first. The last good state, after step \d+, is saved in"):
        train(run, console=console)
    for file in (run.model, run.state):
        assert all(torch.isfinite(t).all() for t in load_file(file).values() if t.is_floating_point())


def test_files_of_a_run(make_run, console, pictures):
    run = make_run()
    ended = train(run, console=console)
    names = {path.name.split(".")[0] for path in run.path.iterdir()}
    assert names == {"config", "vocabulary", "model", "state", "metrics", "events", "curves", "tokens", "valid"}
    assert set(ended.scores) == {"valid", "test"}
    kinds = [(row["kind"], row["step"]) for row in rows(run)]
    assert kinds == [("valid", 5), ("train", 10), ("valid", 10), ("train", 12), ("valid", 12)]
    assert not [path for path in run.path.rglob("*") if path.suffix in (".pt", ".pkl", ".pickle")]


def test_without_held_out_text_the_latest_weights_are_the_model(make_run, console):
    run = make_run()
    for name in ("valid", "test"):
        (run.path / "tokens" / f"{name}.bin").write_bytes(b"")
    corpus = json.loads((run.path / "tokens" / "corpus.json").read_text())
    for name in ("valid", "test"):
        corpus["sections"][name] = {"tokens": 0, "characters": 0, "unknown": 0}
    (run.path / "tokens" / "corpus.json").write_text(json.dumps(corpus))
    assert train(run, console=console).scores == {}
    model, state = load_file(run.model), load_file(run.state)
    assert all(torch.equal(model[name], state[f"model.{name}"]) for name in model)


@pytest.mark.parametrize("spoil", ["cut", "empty", "other", "moments"])
def test_a_state_that_is_not_this_runs(make_run, console, spoil, tmp_path):
    run = make_run()
    train(run, console=console)
    raw = run.state.read_bytes()
    if spoil == "other":
        other = make_run("wider", network={"hidden": 7})
        raw = other.state.read_bytes()
    if spoil == "moments":
        from safetensors import safe_open
        from safetensors.torch import save

        with safe_open(run.state, "pt") as file:
            about = file.metadata()
        raw = save({name: torch.zeros(3) if "exp_avg" in name else t for name, t in load_file(run.state).items()}, about)
    run.state.write_bytes({"cut": raw[:-5], "empty": b""}.get(spoil, raw))
    run.previous_state.unlink()
    with pytest.raises(
        InputError, match=r"state\.safetensors(: weight| cannot be read as safetensors| is not the state).*(Restore|train again)"
    ):
        train(run, console=console)
