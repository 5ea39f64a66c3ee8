"""A run that several ranks share is the run of one process: its rows, weights and saves; and all ranks end together, however it ends."""

import errno
import io
import json
import math

import pytest
import torch
from _rounding import path, relative, rounding
from _together import together
from _unequal import UNEQUAL
from rich.console import Console
from safetensors.torch import load_file

from throughtime import InputError, NonFinite
from throughtime.cli import main
from throughtime.training import RunFolder, _files, _loop, resumed, train
from throughtime.training._ranks import LostRankError

pytestmark = pytest.mark.usefixtures("no_pictures")

SGD = {"optimizer": "sgd", "lr": 0.1, "clip": 0.5}
STEPS = 12
GROWTH = 1.5**STEPS  # of an error from step to step, 1 + lr · curvature: at a rate of .1 a curvature of 5, more than these losses have
APART = GROWTH * STEPS * rounding(path(14, 17))


def shared(run: RunFolder, size: int, stop=lambda rank: False):
    """``size`` ranks train; how the run ended for each, and what was said."""
    consoles = [Console(file=io.StringIO(), width=200) for _ in range(size)]

    def work(ranks):
        with resumed(RunFolder.open(run.path), ranks) as training:
            return training.run(consoles[ranks.rank], lambda: stop(ranks.rank))

    ended = together(size, work)
    assert len({(e.why, e.step, e.diverged) for e in ended}) == 1
    assert not any(console.file.getvalue() for console in consoles[1:])
    assert not any(e.scores for e in ended[1:])
    return ended[0], " ".join(consoles[0].file.getvalue().split())


def rows(run: RunFolder, kind: str) -> list[dict]:
    return [row for row in map(json.loads, run.metrics.read_text().splitlines()) if row["kind"] == kind]


def after(calls: int):
    """Says stop from the n-th time on that it is asked."""
    left = iter(range(calls))
    return lambda rank=None: next(left, None) is None


def assert_same_run(got: RunFolder, wanted: RunFolder, apart: float) -> None:
    for name in ("model.safetensors", "state.safetensors"):
        one, other = load_file(got.path / name), load_file(wanted.path / name)
        numbers = [k for k in other if not k.startswith("generator.")]
        assert set(numbers) == {k for k in one if "generator." not in k}
        assert all(relative(one[k].double(), other[k].double()) <= apart for k in numbers), name
    lines = [[json.loads(line) for line in run.metrics.read_text().splitlines()] for run in (got, wanted)]
    assert len(lines[0]) == len(lines[1])
    for one, other in zip(*lines, strict=True):
        assert one.keys() == other.keys()
        for name in (name for name in one if "second" not in name and name != "kind"):
            assert one[name] == other[name] or math.isclose(one[name], other[name], rel_tol=apart), (name, one, other)


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.float64)


@pytest.mark.usefixtures("in_double")
@pytest.mark.slow
def test_a_text_learned_by_two_then_one_then_four(make_run, console):
    """Streams are dealt anew at each resumption, with what the method keeps of them."""
    loop = {"steps": STEPS, "gradient": "truncated:k1=3,k2=7", "patience": 99}
    whole, run = (make_run(name, optimiser=SGD, loop=loop) for name in ("whole", "run"))
    train(whole, console=console)
    assert shared(run, 2, after(4))[0].why == "interrupted"
    assert train(run, console=console, stop=after(3)).step < STEPS
    ended, _ = shared(run, 4)
    assert (ended.why, ended.step) == ("finished", STEPS)
    assert_same_run(run, whole, APART)


@pytest.mark.parametrize("data", UNEQUAL)
def test_every_task_whose_sequences_are_of_unequal_lengths(tmp_path, monkeypatch, data):
    """In float32, as the data is; the rank of the shorter sequences has fewer losses. A step makes an error larger by a tenth at most."""
    monkeypatch.chdir(tmp_path)
    sizes = "--hidden 5 --batch-size 4 --bptt 9 --optimizer sgd --lr .1 --threads 1 --eval-every 2".split()
    words = data(tmp_path)
    for out in ("whole", "run"):
        assert main(["train", *words, *sizes, "--steps", "1", "--out", out]) == 0
    assert main(["train", words[0], "--out", "whole", "--resume", "--steps", "4"]) == 0
    run = RunFolder.open(tmp_path / "run")
    RunFolder(run.path, RunFolder.open(tmp_path / "whole").config).write_config()
    assert shared(run, 2)[0].why == "finished"
    assert_same_run(run, RunFolder.open(tmp_path / "whole"), 1.1**4 * 4 * rounding(path(9, 17), dtype=torch.float32))


def test_a_stop_that_one_rank_is_asked_for_ends_all_after_one_step(make_run):
    run = make_run()
    ended, _ = shared(run, 2, lambda rank: rank == 1)
    assert (ended.why, ended.step) == ("interrupted", 1)
    assert load_file(run.state)["carry.state.0"].shape[1] == 4
    assert shared(run, 2)[0].why == "finished"


def test_a_budget_of_time_ends_all_at_the_same_step(make_run):
    ended, _ = shared(make_run(loop={"steps": None, "minutes": 0.002}), 2)
    assert ended.why == "finished"
    assert ended.step > 0


def test_what_a_method_keeps_and_cannot_deal_anew(make_run, console):
    run = make_run(loop={"gradient": "rtrl"})
    shared(run, 2, after(5))
    state = load_file(run.state)
    assert {k.split(".")[1] for k in state if k.startswith("rank.") and ".kept." in k} == {"0", "1"}
    with pytest.raises(InputError, match=r"saved by 2 processes with RTRL\(\).* go on with one process, expected 2. Start as many"):
        train(run, console=console)
    with pytest.raises(InputError, match="go on with 4 processes, expected 2"):
        shared(run, 4)
    assert shared(run, 2)[0].why == "finished"
    alone = make_run("alone", loop={"gradient": "uoro"})
    train(alone, console=console, stop=after(5))
    with pytest.raises(InputError, match=r"saved by one process with UORO.* go on with 2 processes, expected 1"):
        shared(alone, 2)


@pytest.mark.slow
def test_a_resumption_by_as_many_finds_the_same_bits(make_run):
    whole, cut = (make_run(name, loop={"gradient": "uoro", "steps": 8}) for name in ("whole", "cut"))
    shared(whole, 2)
    shared(cut, 2, after(7))
    shared(cut, 2)
    one, other = load_file(whole.state), load_file(cut.state)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one if not k.endswith("generator.cpu"))  # threads share torch's


class TestANumberThatIsNotFinite:
    def spoil(self, monkeypatch, wanted):
        """The carried state of the second rank, before a step."""
        real = _loop.step

        def spoiled(model, batch, carry, **options):
            if options["ranks"].rank == 1 and wanted(carry):
                carry.state[0].fill_(math.nan)
            return real(model, batch, carry, **options)

        monkeypatch.setattr(_loop, "step", spoiled)

    def once(self):
        left = iter(range(3))
        return lambda carry: next(left, None) == 2

    @pytest.mark.parametrize("remedy", ["skip", "rollback"])
    def test_is_skipped_or_gone_back_from_by_all(self, make_run, monkeypatch, remedy):
        run = make_run(loop={"on_nonfinite": remedy, "save_every": 0.0})
        self.spoil(monkeypatch, self.once())
        ended, _ = shared(run, 2)
        assert (ended.why, ended.step) == ("finished", 12)
        (row,) = rows(run, {"skip": "skipped"}.get(remedy, remedy))
        assert row["first"] == "the carried state, before the step (process 1)"

    def test_stops_all(self, make_run, monkeypatch):
        run = make_run()
        self.spoil(monkeypatch, self.once())
        with pytest.raises(NonFinite, match=r"not a finite number at step 3: the carried state, before the step \(process 1\) went first"):
            shared(run, 2)


class TestADiskThatIsFull:
    def test_is_survived_by_all(self, make_run, monkeypatch):
        run, real, left = make_run(), _files._into_place, iter(range(3))

        def full(aside, file, previous=None):
            if file.suffix == ".safetensors" and next(left, None) is not None:
                raise OSError(errno.ENOSPC, "No space left on device", str(file))
            real(aside, file, previous)

        monkeypatch.setattr(_files, "_into_place", full)
        ended, said = shared(run, 2)
        assert ended.why == "finished"
        assert "cannot save the best weights (No space left on device); training goes on" in said
        assert "saved again" in said

    def test_at_the_end_is_an_error(self, make_run, monkeypatch):
        def full(aside, file, previous=None):
            raise OSError(errno.ENOSPC, "No space left on device", str(file))

        run = make_run()
        monkeypatch.setattr(_files, "_into_place", full)
        with pytest.raises(OSError, match="No space"):
            shared(run, 2)


def test_ranks_that_see_different_folders(make_run, tmp_path):
    """As where machines have no file system in common."""
    here, there = make_run("here"), make_run("there")
    train(there, console=Console(file=io.StringIO()), stop=after(3))

    def work(ranks):
        with resumed([here, there][ranks.rank], ranks):
            pass

    with pytest.raises(InputError, match=r"there has the state after step \d here, and after step 0 for the first process.*\(process 1\)"):
        together(2, work)


def test_a_rank_that_ends_ends_the_others(make_run):
    lost = []

    def work(ranks):
        try:
            with resumed(RunFolder.open(run.path), ranks) as training:
                if ranks.rank == 1:
                    raise ZeroDivisionError
                training.run(Console(file=io.StringIO()))
        except LostRankError as error:
            lost.append(error)
            raise

    run = make_run()
    with pytest.raises(ZeroDivisionError):
        together(2, work)
    assert len(lost) == 1
