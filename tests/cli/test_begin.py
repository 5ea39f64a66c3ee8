"""New runs from old ones, options from files, tables of runs, and texts that are written several times."""

from pathlib import Path

import pytest
import torch
from _shell import SMALL, TEXT
from safetensors.torch import load_file

from throughtime.cli import main
from throughtime.training import RunFolder

pytestmark = pytest.mark.usefixtures("as_in_a_shell")


def test_from_another_run(trained, tmp_path):
    (tmp_path / "new.txt").write_text(TEXT.replace("cat", "dog") + "ZZ" * 200)  # Z is unknown to the old run
    assert main(["train", "text", "new.txt", "--from", str(trained), "--steps", "1", "--lr", "1e-30", "--out", "child"]) == 0
    parent, child = RunFolder.open(trained), RunFolder.open(Path("child"))
    assert child.config.network == parent.config.network
    assert (child.config.loop.steps, child.config.optimiser.lr) == (1, 1e-30)
    assert child.task().vocabulary.to_json() == parent.task().vocabulary.to_json()
    one, other = load_file(parent.model), load_file(child.model)
    for name, weight in one.items():  # a step of 1e-30 changes no float32 number that is not 0
        assert torch.equal(weight, other[name]) or (weight - other[name]).abs().max() <= 1e-29


def test_from_another_run_on_its_own_text(trained):
    assert main(["train", "text", "--from", str(trained), "--epochs", "1", "--out", "child"]) == 0
    loop = RunFolder.open(Path("child")).config.loop
    assert (loop.epochs, loop.steps) == (1, None)


def test_options_from_a_file_are_those_that_were_printed(capsys):
    flags = ["--cell", "lstm", "--hidden", "5", "--split", "0.8,0.1,0.1", "--lr", "0.01", "--steps", "3", "--watch-flow", "0"]
    assert main(["train", "text", "book.txt", *flags, "--print-config"]) == 0
    printed = capsys.readouterr().out
    Path("c.toml").write_text(printed)
    assert main(["train", "text", "--config", "c.toml", "--print-config"]) == 0
    assert capsys.readouterr().out == printed
    assert main(["train", "text", "--config", "c.toml", "--hidden", "6", "--epochs", "2", "--print-config"]) == 0
    changed = capsys.readouterr().out
    assert "hidden = 6\n" in changed
    assert "epochs = 2\n" in changed
    assert "# steps =\n" in changed


def test_a_number_of_seconds_without_a_unit_is_told(capsys):
    assert main(["train", "text", "book.txt", "--save-every", "90", "--print-config"]) == 0
    printed, said = capsys.readouterr()
    assert "save_every = 90.0\n" in printed
    assert said == "throughtime: --save-every 90 is read as seconds, as it always was; with a unit it is clear: 90s, or 500steps.\n"
    assert main(["train", "text", "book.txt", "--save-every", "500steps", "--print-config"]) == 0
    printed, said = capsys.readouterr()
    assert 'save_every = "500steps"\n' in printed
    assert said == ""


def test_options_without_their_groups(capsys):
    Path("c.toml").write_text('hidden = 5\nfiles = ["book.txt"]\nbatch-size = 3\n')
    assert main(["train", "text", "--config", "c.toml", "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in ("hidden = 5\n", 'files = ["book.txt"]\n', "batch_size = 3\n"))


def test_what_to_do_next_is_told(capsys):
    assert main(["train", "text", "book.txt", *SMALL, "--out", "my run"]) == 0
    assert "sample it with: throughtime sample 'my run'\n" in capsys.readouterr().out


def test_a_table_of_runs(trained, tmp_path, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "run").symlink_to(trained)
    (tmp_path / "one").symlink_to(trained)
    assert main(["runs", str(trained.parent)]) == 0
    (header, row) = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "cell", "hidden", "steps", "valid", "loss", "bits/char", "speed"]
    name, cell, hidden, steps, nats, *_ = row.split()
    assert (name, cell, hidden, steps) == ("run", "gru", "6", "6")
    assert 2 < float(nats) < 4
    assert main(["runs", "."]) == 0
    assert "broken  cannot be read" in " ".join(capsys.readouterr().out.split("\n")).replace("   ", "  ")


def test_several_texts(trained, capsys):
    assert main(["sample", str(trained), "--prompt", "the ", "--length", "9", "--seed", "3", "--count", "2"]) == 0
    both = capsys.readouterr().out
    for seed in ("3", "4"):
        assert main(["sample", str(trained), "--prompt", "the ", "--length", "9", "--seed", seed]) == 0
        one = capsys.readouterr().out
        assert one in both
    assert both.count("\n\nthe ") >= 1


def test_a_run_on_the_standard_input(monkeypatch, capsys):
    import io

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert main(["train", "text", "-", *SMALL]) == 0
    assert "run folder: runs/text-gru6-1" in capsys.readouterr().out


def test_a_finished_run_is_not_changed(trained, tmp_path, capsys):
    import shutil

    shutil.copytree(trained, "run")
    before = {path: path.read_bytes() for path in Path("run").rglob("config.json")}
    assert main(["train", "text", "--out", "run", "--resume", "--steps", "5"]) == 0
    assert "has finished already, after 6 steps" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in Path("run").rglob("config.json")} == before


def test_a_training_that_diverges_is_no_success(capsys):
    flags = ["--cell", "rnn", "--optimizer", "sgd", "--lr", "30", "--clip", "0", "--steps", "30"]
    assert main(["train", "text", "book.txt", *SMALL[:-4], "--threads", "1", *flags, "--out", "run"]) == 1
    output, error = capsys.readouterr()
    assert "throughtime: the training diverged: the last validation costs" in error
    assert "Lower --lr, or --clip" in error
    assert "best" not in output
