"""``throughtime flow`` as a person types it."""

import json
import re

import pytest
from _shell import SMALL, TEXT

from throughtime.cli import main

pytestmark = pytest.mark.usefixtures("as_in_a_shell")


def test_the_verdict_and_a_table(trained, capsys):
    assert main(["flow", str(trained)]) == 0
    output = capsys.readouterr().out
    assert re.match(r"(vanishing|exploding|healthy): The gradient ", output)
    assert re.search(r"measured +16 steps × \d streams, loss \d\.\d+ \(guessing costs \d\.\d{3}\)", output)
    assert re.search(r"the run's own +chunks of 8 steps: bias [\d.]+%, cosine [\d.]+", output)
    assert re.search(r"window, in chunks +bias 10 % at ", output)
    assert re.search(r"• .*: --(gradient|bptt|chrono|clip) ", output)
    assert not re.search(r"\b[A-Z]\w+\(", output)  # no objects of Python
    assert re.search(r"greatest exponent +-?[\d.]+ nats a step", output)


def test_json_is_what_the_page_holds(trained, capsys):
    assert main(["flow", str(trained), "--json", "--html", "page.html", "--data", "book.txt", "--steps", "20", "--streams", "2"]) == 0
    printed = json.loads(capsys.readouterr().out)
    with open("page.html", encoding="utf-8") as file:
        page = file.read()
    inside = re.search(r'<script type="application/json" id="flow">(.*?)</script>', page, re.DOTALL)
    assert json.loads(inside[1]) == printed
    assert f"<title>Gradient flow of {trained} on book.txt</title>" in page
    assert (printed["about"]["T"], printed["about"]["B"], printed["about"]["carried"]) == (20, 2, True)
    assert "".join(printed["text"]["inputs"]) == TEXT[20:40]  # the second window of the first stream
    assert "".join(printed["text"]["targets"]) == TEXT[21:41]
    assert printed["bias"]["chosen"] == 8


def test_the_claim_is_what_compare_gradients_finds(trained, capsys):
    """Both verbs as typed look at the same batch, from the same state."""
    assert main(["flow", str(trained), "--json"]) == 0
    flow = json.loads(capsys.readouterr().out)
    methods = ["truncated:k1=8", "truncated:k1=4,k2=8", "sliding:lags=4"]
    assert main(["compare-gradients", str(trained), "--methods", *methods, "--json"]) == 0
    chunks, windows, sliding = (row["bias"] for row in json.loads(capsys.readouterr().out)["methods"])
    bias = flow["bias"]
    assert bias["own"]["words"] == "chunks of 8 steps"
    claimed = lambda form, k: dict(zip(form["windows"], form["bias"], strict=True))[k]
    # float32 on one side, float64 on the other: 16 steps of sums over at most 24 numbers, 2 ** 9 roundings in all
    near = lambda wanted: pytest.approx(wanted, rel=2**9 * 2**-24 / wanted)
    assert bias["own"]["bias"] == near(chunks)
    assert claimed(bias["chunked"], 8) == near(chunks)
    assert claimed(bias["overlapping"], 4) == near(windows)
    assert bias["bias"][3] == near(sliding)


def test_steps_that_the_runs_windows_do_not_divide(trained, capsys):
    assert main(["flow", str(trained), "--steps", "20"]) == 0
    assert re.search(r"the run's own +chunks of 8 steps, the last call of 4: bias", capsys.readouterr().out)


def test_a_text_of_one_window_starts_from_nothing(trained, capsys, tmp_path):
    (tmp_path / "short.txt").write_text(TEXT[:12])
    assert main(["flow", str(trained), "--data", "short.txt", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["about"]
    assert (about["T"], about["B"], about["carried"]) == (11, 1, False)


def test_a_text_that_looks_like_markup(trained, capsys, tmp_path):
    (tmp_path / "[red]<b>.txt").write_text(TEXT)
    assert main(["flow", str(trained), "--data", "[red]<b>.txt", "--html", "[bold]page.html"]) == 0
    assert "page: [bold]page.html" in capsys.readouterr().out
    assert "[red]&lt;b&gt;.txt</title>" in (tmp_path / "[bold]page.html").read_text("utf-8")


def test_watching_and_omega_from_the_command(capsys, tmp_path):
    flags = [*SMALL, "--cell", "rnn", "--omega", "0.5", "--watch-flow", "3", "--out", "run"]
    assert main(["train", "text", "book.txt", *flags]) == 0
    looks = [row for row in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) if row["kind"] == "flow"]
    assert [row["step"] for row in looks] == [3, 6]
    assert main(["train", "text", "--out", "run", "--resume", "--steps", "8", "--watch-flow", "0", "--omega", "0"]) == 0
    capsys.readouterr()
    assert main(["train", "text", "book.txt", *SMALL, "--omega", "1"]) == 2
    assert "--omega is given with --cell gru; expected --cell rnn" in capsys.readouterr().err
