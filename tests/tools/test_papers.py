"""The scripts of benchmarks/papers run in their smallest form, keep what they found, and do not do it twice."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
PAPERS = ROOT / "benchmarks" / "papers"


@pytest.fixture
def paper(monkeypatch):
    """A script by its name, as a module; its neighbours are forgotten after the test."""
    monkeypatch.syspath_prepend(PAPERS)
    torch.set_default_dtype(torch.float32)  # as whoever runs a script has it
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (PAPERS / f"{name}.py").exists():
            del sys.modules[name]


@pytest.mark.parametrize("name", ["adding", "copying", "methods", "temporal_order"])
def test_a_synthetic_table_runs(paper, name):
    row = paper(name).rows(True)[-1]
    outcome = row.train(0)
    assert np.isfinite(outcome.value)
    assert outcome.parameters > 0


def chorales(folder: Path) -> Path:
    """Three parts of a piece each."""
    pieces = {part: np.random.default_rng(0).integers(2, size=(9, 5)).astype(np.float32) for part in ("train", "valid", "test")}
    np.savez(folder / "pieces.npz", **pieces)
    return folder / "pieces.npz"


def text(folder: Path) -> Path:
    """As long as the 50 streams of char-rnn."""
    (folder / "text.txt").write_text("to be or not to be\n" * (1_115_394 // 19))
    return folder / "text.txt"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "data"), [("chorales", chorales), ("char_rnn", text), ("depth", text)])
def test_a_table_of_the_shell_runs(paper, name, data, tmp_path, monkeypatch):
    script, file = paper(name), data(tmp_path)
    monkeypatch.setattr(script, "fetch", lambda name: file)
    outcome = script.rows(True)[0].train(0)
    assert np.isfinite(outcome.value)
    assert outcome.parameters > 0


@pytest.mark.slow
def test_the_race_adds_a_round_to_those_that_stand(paper, tmp_path, monkeypatch, capsys):
    file = text(tmp_path)
    monkeypatch.setattr(paper("char_rnn"), "fetch", lambda name: file)
    kept = tmp_path / "race.json"
    for racers in ("throughtime,torch", "throughtime"):
        words = ["--json", str(kept), "--steps", "2", "--slice", "1", "--racers", racers]
        monkeypatch.setattr(sys, "argv", ["char_rnn_race.py", *words])
        paper("char_rnn_race").main()
    first, second = (each["racers"] for each in json.loads(kept.read_text())["rounds"])
    assert first["torch"]["nats"] == pytest.approx(first["throughtime"]["nats"], rel=1e-4), "the same recipe on the same windows"
    assert second.keys() == {"throughtime"}
    assert "throughtime" in capsys.readouterr().out


@pytest.mark.slow
def test_a_race_of_epochs_counts_its_steps(paper, tmp_path, monkeypatch):
    file = text(tmp_path)
    monkeypatch.setattr(paper("char_rnn"), "fetch", lambda name: file)
    race = paper("char_rnn_race")
    runner = race.Runner("throughtime", race.opened("throughtime", 0, tmp_path / "race", None))
    runner.run(1)
    assert (runner.step, runner.steps) == (1, 12 * 423)


def test_runs_that_are_judged_are_counted(paper):
    runs = [{"value": v, "parameters": 1, "seconds": 90.0, "processor_seconds": 9.0, "learned": v < 1} for v in (0.5, 2.5)]
    lines = paper("_shown").shown([{"name": "n", "paper": "–", "runs": runs}], "% wrong", ".1f").splitlines()
    assert lines[2] == "| n | – | 1.5 ± 1.4 | 1 of 2 | 2 | 1 | 9 s | 1.5 min |"
    assert lines[0].count("|") == lines[2].count("|")


def test_a_run_that_is_kept_is_not_done_again(paper, tmp_path, capsys):
    table = paper("_table")
    done = []

    def train(seed: int):
        done.append(seed)
        return table.Outcome(1.0 + seed, 7, {"valid": 0.5})

    def rows(recipe: str):
        return table.Table("nats", ".2f", lambda small: [table.Row("a row", "2.5", recipe, train)])

    words = ["--json", str(tmp_path / "found.json"), "--seeds"]
    table.main(rows("one"), None, [*words, "2"])
    table.main(rows("one"), None, [*words, "3"])
    assert done == [0, 1, 2]
    kept = json.loads((tmp_path / "found.json").read_text())
    assert [run["value"] for run in kept["rows"][0]["runs"]] == [1.0, 2.0, 3.0]
    assert "| a row | 2.5 | 2.00 ± 1.00 | 3 | 7 |" in capsys.readouterr().out
    table.main(rows("another"), None, [*words, "1"])
    assert done == [0, 1, 2, 0], "another recipe makes what is kept void"
    assert len(json.loads((tmp_path / "found.json").read_text())["rows"][0]["runs"]) == 1
