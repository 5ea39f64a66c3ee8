"""The command as a person types it: what it does, and the one sentence for what it cannot do."""

import json
import re
import shutil

import pytest
from _shell import SMALL, TEXT
from _tables import first

from throughtime.cli import main
from throughtime.data import read_vocabulary
from throughtime.training import RunFolder

pytestmark = pytest.mark.usefixtures("as_in_a_shell")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence of a refusal: exit code 2, no traceback, nothing left behind that begins with a dot."""
    from pathlib import Path

    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("throughtime: ")
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert not list(Path().glob(".*"))
    return error


@pytest.mark.parametrize(
    "level", [["char"], ["byte"], ["word", "--min-count", "2"], ["bpe", "--vocab-size", "270"]], ids=lambda level: level[0]
)
def test_every_level_from_text_to_sample(level, capsys):
    assert main(["train", "text", "book.txt", *SMALL, "--bptt", "4", "--level", *level, "--out", "run"]) == 0
    assert "run folder: run" in capsys.readouterr().out
    assert main(["evaluate", "run", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["text"] == "test"
    assert score["perplexity"] == pytest.approx(2 ** score["bits_per_token"])
    assert main(["sample", "run", "--prompt", "the big", "--length", "5", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("the big")


FLAGS = [
    ["--cell", "rnn", "--activation", "relu", "--init", "identity", "--optimizer", "sgd", "--lr", "0.01", "--momentum", "0.5"],
    ["--cell", "rnn", "--activation", "sigmoid", "--optimizer", "rmsprop", "--schedule", "linear", "--initial", "learnable"],
    ["--cell", "rnn", "--activation", "identity", "--clip-step", "0.5", "--optimizer", "adagrad"],
    [
        "--cell",
        "lstm",
        "--forget-bias",
        "1",
        "--layers",
        "2",
        "--dropout",
        "0.2",
        "--input-dropout",
        "0",
        "--schedule",
        "cosine",
        "--warmup",
        "3",
    ],
    ["--cell", "lstm", "--chrono", "20", "--optimizer", "adamw", "--weight-decay", "0.01", "--embedding", "0"],
    ["--cell", "gru", "--embedding", "6", "--tied", "--init", "orthogonal", "--clip-value", "0.1", "--clip", "0"],
    ["--cell", "peephole-lstm", "--forget-bias", "1"],
    ["--cell", "throughtime.cells.zoo:NBRC", "--layers", "2"],
    ["--initial", "random", "--schedule", "exponential", "--decay", "0.5", "--decay-after", "0", "--epochs", "1", "--eval-every", "5"],
    ["--minutes", "0.002", "--save-every", "0s", "--seed", "7"],
]


@pytest.mark.parametrize(
    "flags",
    first(FLAGS[3:7:3], FLAGS),
    ids=lambda flags: " ".join(flags[:4]),
)
def test_every_flag(flags, capsys):
    budget = [] if "--epochs" in flags or "--minutes" in flags else ["--steps", "4"]
    assert main(["train", "text", "book.txt", *SMALL[:-4], "--threads", "1", *budget, *flags, "--out", "run"]) == 0
    assert main(["evaluate", "run"]) == 0


def test_texts_of_their_own(capsys, tmp_path):
    (tmp_path / "v.txt").write_text("the cat\n" * 9)
    (tmp_path / "t.txt").write_text("the dog\n" * 7)
    assert main(["train", "text", "book.txt", "book.txt", *SMALL, "--valid", "v.txt", "--test", "t.txt", "--out", "run"]) == 0
    output = capsys.readouterr().out
    assert f"train {2 * len(TEXT):,}  valid 72  test 56" in output
    assert main(["evaluate", "run", "--data", "v.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 71


def test_the_run_is_named_where_no_name_is_given(tmp_path):
    for number in (1, 2):
        assert main(["train", "text", "book.txt", *SMALL]) == 0
        assert (tmp_path / "runs" / f"book-gru6-{number}" / "curves.png").is_file()


def test_what_is_printed_while_training(capsys):
    main(["train", "text", "book.txt", *SMALL, "--out", "run"])
    output = capsys.readouterr().out
    line = r"step 6  loss \d\.\d{3}  \d\.\d{3} bits/token  [\d.]+k? tokens/s  \|g\| [\d.]+  clipped \d+%  0:00 left"
    assert re.search(line, output)
    assert re.search(r"step 6  valid \d\.\d{3} nats  \d\.\d{3} bits/character  perplexity [\d.]+  best", output)
    assert max(map(len, output.splitlines())) <= 90


def test_names_that_look_like_markup(capsys, tmp_path):
    (tmp_path / "[red]a[bold].txt").write_text(TEXT)
    assert main(["train", "text", "[red]a[bold].txt", *SMALL, "--out", "[bold]run"]) == 0
    assert "run folder: [bold]run" in capsys.readouterr().out
    assert main(["evaluate", "[bold]run", "--data", "[red]a[bold].txt"]) == 0
    assert "[red]a[bold].txt" in capsys.readouterr().out


class TestSample:
    def test_the_same_seed_writes_the_same(self, trained, capsys):
        outputs = set()
        for seed in ("3", "3", "4"):
            main(["sample", str(trained), "--length", "60", "--seed", seed])
            outputs.add(capsys.readouterr().out)
        assert len(outputs) == 2

    @pytest.mark.parametrize(
        "flags", [["--temperature", "0"], ["--top-k", "1"], ["--temperature", "0.5", "--top-k", "3"], ["--top-k", "9999"]]
    )
    def test_temperature_and_top_k(self, trained, capsys, flags):
        assert main(["sample", str(trained), "--prompt", "the ", "--length", "9", "--seed", "1", *flags]) == 0
        assert len(capsys.readouterr().out) >= 4 + 9 + 1


class TestEvaluate:
    def test_the_table(self, trained, capsys):
        assert main(["evaluate", str(trained), "--section", "valid"]) == 0
        output = capsys.readouterr().out
        assert re.search(r"nats/token +bits/token +bits/character +perplexity +tokens +unknown", output)
        assert re.search(r"valid +\d\.\d{4}", output)


class TestResume:
    @pytest.fixture
    def run(self, trained, tmp_path):
        shutil.copytree(trained, tmp_path / "run")
        return tmp_path / "run"

    def test_a_finished_run_says_so(self, run, capsys):
        assert main(["train", "text", "--out", "run", "--resume"]) == 0
        assert "has finished already, after 6 steps; a larger budget" in capsys.readouterr().out

    def test_a_larger_budget_of_another_kind_and_another_rate(self, run, capsys):
        assert main(["train", "text", "--out=run", "--resume", "--epochs", "1", "--lr", "0.001"]) == 0
        config = RunFolder.open(run).config
        assert (config.loop.steps, config.loop.epochs, config.optimiser.lr) == (None, 1, 0.001)

    def test_a_flag_that_is_on_may_be_repeated(self, capsys):
        flags = [*SMALL, "--embedding", "6", "--tied", "--out", "run"]
        assert main(["train", "text", "book.txt", *flags]) == 0
        assert main(["train", "text", "book.txt", *flags, "--resume", "--steps", "8"]) == 0


class TestTrainRefusals:
    def test_overwriting_with_a_bad_text_loses_nothing(self, trained, tmp_path, capsys):
        shutil.copytree(trained, tmp_path / "run")
        (tmp_path / "bad.txt").write_bytes(TEXT.encode() + b"\xff")
        before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
        assert f"byte {len(TEXT):,} is 0xff" in refused(["train", "text", "bad.txt", *SMALL, "--out", "run", "--overwrite"], capsys)
        assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before

    def test_folders_made_for_a_run_that_never_was_are_gone(self, tmp_path, capsys):
        refused(["train", "text", "book.txt", "--bptt", "600", "--out", "a/b/run"], capsys)
        assert [path.name for path in tmp_path.iterdir()] == ["book.txt"]

    def test_a_full_disk_while_the_run_begins_loses_nothing(self, trained, tmp_path, capsys, monkeypatch):
        shutil.copytree(trained, tmp_path / "run")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("throughtime.training._state.write_tensors", full)
        assert "the disk is full; expected room for what is written" in refused(
            ["train", "text", "book.txt", *SMALL, "--out", "run", "--overwrite"], capsys
        )
        assert read_vocabulary(tmp_path / "run" / "vocabulary.json").size
        monkeypatch.undo()
        assert main(["evaluate", str(tmp_path / "run")]) == 0

    def test_a_loss_that_is_not_finite(self, capsys):
        flags = ["--cell", "rnn", "--activation", "relu", "--optimizer", "sgd", "--lr", "1e30", "--clip", "0"]
        error = refused(["train", "text", "book.txt", *SMALL, *flags, "--out", "run"], capsys)
        assert re.search(r"not a finite number at step \d+: .* went first. The last good state, after step \d+, is saved in run;", error)


class TestVerbs:
    def test_an_overview(self, capsys):
        assert main([]) == 0
        output = capsys.readouterr().out
        assert all(verb in output for verb in ("train text", "evaluate", "sample", "demo", "info"))

    def test_the_version(self, capsys):
        assert main(["--version"]) == 0
        assert re.fullmatch(r"throughtime \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)  # between two tags: .devN+gCOMMIT

    def test_info(self, capsys):
        assert main(["info"]) == 0
        assert all(name in capsys.readouterr().out for name in ("torch",))

    @pytest.mark.parametrize("verb", [["train", "text"], ["evaluate"], ["sample"], ["demo"], ["info"]], ids=" ".join)
    def test_help_says_what_holds_and_not_how_it_is_typed(self, verb, capsys):
        for flag in ("--help", "--help-all"):
            assert main([*verb, flag]) == 0
            output = capsys.readouterr().out
            assert "None" not in output
            assert output.startswith(f"Usage: throughtime {' '.join(verb)}")

    def test_demo(self, capsys, tmp_path, pictures):
        assert main(["demo", "--minutes", "0.005", "--hidden", "8", "--out", "run"]) == 0
        assert "the model goes on from 'The '" in capsys.readouterr().out
        assert (tmp_path / "run" / "curves.png").is_file()
