"""Several seeds in one command: each run is the one that its seed makes alone, nothing is lost, and the spread is right."""

import json
import statistics

import pytest

from throughtime._errors import NonFinite
from throughtime.cli import _seeds, main
from throughtime.training import RunFolder
from throughtime.training._loop import Training

SMALL = ["--hidden", "6", "--bptt", "8", "--batch-size", "4", "--threads", "1", "--steps", "4"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("the cat sat on the mat\n" * 60)
    return path


def test_each_run_is_that_of_its_seed_and_an_interruption_loses_none(text, tmp_path, capsys, monkeypatch):
    train = ["train", "text", str(text), *SMALL]
    assert main([*train, "--seed", "2", "--out", str(tmp_path / "alone")]) == 0
    trained = _seeds._train.trained
    with monkeypatch.context() as patch:
        patch.setattr(_seeds._train, "trained", lambda f, *a, **k: None if f.config.loop.seed == 2 else trained(f, *a, **k))
        assert main([*train, "--seed", "2,1", "--out", str(tmp_path / "two")]) == 130
    assert not (tmp_path / "two" / "scores.json").exists()
    capsys.readouterr()
    assert main(["train", "text", "--out", str(tmp_path / "two"), "--resume"]) == 0
    said = capsys.readouterr().out
    assert "mean ± sd of 2 seeds" in said
    assert (tmp_path / "two" / "seed-2" / "model.safetensors").read_bytes() == (tmp_path / "alone" / "model.safetensors").read_bytes()
    found = json.loads((tmp_path / "two" / "scores.json").read_text())
    each = [found["seeds"][seed]["test"]["nats"] for seed in ("1", "2")]
    assert found["over_seeds"]["test"]["nats"] == {"mean": statistics.fmean(each), "sd": statistics.stdev(each)}
    assert _seeds.spread(each) in said
    assert "tokens" not in found["over_seeds"]["test"]
    assert RunFolder.open(tmp_path / "two" / "seed-1").config.loop.seed == 1
    assert main(["runs", str(tmp_path)]) == 0
    assert "two, mean of 2" in capsys.readouterr().out


def test_who_does_not_wait_for_the_scores_of_a_seed_is_told_how_to_go_on_with_the_others(text, tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Training, "final_scores", lambda self, console, stop: None)  # as if somebody asked for a stop meanwhile
        assert main(["train", "text", str(text), *SMALL, "--seed", "1,2", "--out", out]) == 130
    said = capsys.readouterr().out
    assert "interrupted while the final scores were measured" in said
    assert f"Go on with:\n  throughtime train text --out {out} --resume" in said
    assert main(["train", "text", "--out", out, "--resume"]) == 0
    assert "mean ± sd of 2 seeds" in capsys.readouterr().out


def test_a_seed_that_fails_does_not_keep_the_others_from_being_made(text, tmp_path, capsys, monkeypatch):
    trained = _seeds._train.trained

    def fails(folder, *rest, **options):
        if folder.config.loop.seed == 1:
            raise NonFinite("the loss is nan. Lower `lr`.")
        return trained(folder, *rest, **options)

    monkeypatch.setattr(_seeds._train, "trained", fails)
    assert main(["train", "text", str(text), *SMALL, "--seed", "1,2", "--out", str(tmp_path / "run")]) == 2
    out, err = capsys.readouterr()
    assert "the loss is nan. Lower --lr." in err
    assert "mean ± sd of 1 seeds" not in out
    assert (tmp_path / "run" / "seed-2" / "curves.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "1,1"], "--seed is 1,1; expected each seed once"),
        (["--seed", "1,x"], "--seed is '1,x'; expected an integer, or several with commas between"),
        (["--seed", "1,-2"], "--seed is -2; expected an integer from 0"),
        (["--seed", "1,2", "--print-config"], "several seeds are given with --print-config; expected one"),
        (["--seed", "1,2", "--bptt", "9999"], "the training text has 1,242 symbols"),
    ],
)
def test_what_is_refused_leaves_nothing(text, tmp_path, capsys, words, said):
    assert main(["train", "text", str(text), *SMALL, *words, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.txt"]


def test_a_folder_of_seeds_is_told_from_a_run(text, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["train", "text", str(text), *SMALL, "--seed", "1,2", "--out", out]) == 0
    for words in (
        ["evaluate", out],
        ["train", "text", "--out", out, "--resume", "--seed", "1,3"],
        ["train", "text", str(text), "--out", out],
    ):
        assert main(words) == 2
    said = capsys.readouterr().err
    assert f"{out} holds a run for each of several seeds (seed-1, seed-2); expected one of them. Name it: {out}/seed-1" in said
    assert "--seed is 1,3 and" in said
    assert "is there already" in said
    assert main(["train", "text", str(text), *SMALL, "--seed", "7,8", "--out", out, "--overwrite"]) == 0
    assert sorted(path.name for path in (tmp_path / "run").glob("seed-*")) == ["seed-7", "seed-8"]


def test_the_spread_has_as_many_digits_as_mean_something():
    assert _seeds.spread([1.0, 1.5]) == "1.25 ± 0.35"
    assert _seeds.spread([100.0, 350.0]) == "225 ± 177"
    assert _seeds.spread([2.0]) == "2"
    assert _seeds.spread([]) == ""
