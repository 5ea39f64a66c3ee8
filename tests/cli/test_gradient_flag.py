"""``--gradient`` as a person types it."""

import json
from pathlib import Path

import pytest

from throughtime.cli import main

pytestmark = pytest.mark.usefixtures("as_in_a_shell")
SMALL = ["--hidden", "6", "--batch-size", "4", "--bptt", "8", "--steps", "4", "--threads", "1", "--out", "run"]


@pytest.mark.parametrize("spec", ["sliding:lags=3", "adaptive:tolerance=0.5,max_lags=9"])
def test_train_stop_and_go_on(spec):
    assert main(["train", "text", "book.txt", *SMALL, "--gradient", spec]) == 0
    assert json.loads(Path("run/config.json").read_text())["run"]["loop"]["gradient"] == spec
    assert main(["train", "text", "--out", "run", "--resume", "--steps", "6"]) == 0
    assert [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines() if '"train"' in line] == [4, 6]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("throughtime: ")
    assert error.count("\n") == 1
    return error


def test_a_run_keeps_its_method(capsys):
    assert main(["train", "text", "book.txt", *SMALL, "--gradient", "sliding:lags=3"]) == 0
    capsys.readouterr()
    error = refused(["train", "text", "--out", "run", "--resume", "--gradient", "full"], capsys)
    assert "--gradient is full but the run was begun with sliding:lags=3" in error
