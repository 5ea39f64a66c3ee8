"""What is seen: terminals of every width, none at all, and readers that go away."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time

import pytest
from _shell import SMALL, TEXT
from _tables import first
from rich.console import Console

from throughtime.cli import main
from throughtime.cli._app import VERBS
from throughtime.cli._compared import header, left_out, row_lines
from throughtime.cli._outputs import Lasting
from throughtime.gradients import Compared

WIDTHS = first([20, 200], [20, 40, 80, 200])
PROGRAM = [sys.executable, "-m", "throughtime"]


def in_a_terminal(arguments, folder, width: int) -> tuple[int, str]:
    """Status and everything that a terminal of this width was sent."""
    here, there = pty.openpty()
    os.set_blocking(here, False)
    environment = {**os.environ, "COLUMNS": str(width), "LINES": "40", "TERM": "xterm"}
    process = subprocess.Popen([*PROGRAM, *arguments], cwd=folder, stdin=there, stdout=there, stderr=there, env=environment)
    os.close(there)
    seen, ends = b"", time.monotonic() + 100
    while time.monotonic() < ends:
        select.select([here], [], [], 0.2)
        try:
            seen += os.read(here, 1 << 16)
        except BlockingIOError:
            if process.poll() is not None:
                break
        except OSError:  # the other side is closed
            break
    os.close(here)
    return process.wait(timeout=600), seen.decode()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_fits(verb, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([*verb, "--help-all"]) == 0
    words = capsys.readouterr().out
    longest = max(map(len, words.split()))  # a choice in braces is one word, which nothing breaks
    assert max(map(len, words.splitlines())) <= max(width, longest + 30)
    if width >= 80:
        assert max(map(len, words.splitlines())) <= width


READERS = [
    ["evaluate", "RUN"],
    ["runs", "RUNS"],
    ["info"],
    ["flow", "RUN", "--streams", "2"],
    ["compare-gradients", "RUN", "--length", "20", "--methods", "full", "adaptive:tolerance=0.5,max_lags=9", "rflo"],
]


@pytest.mark.usefixtures("as_in_a_shell")
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("typed", READERS, ids=lambda typed: typed[0])
def test_what_is_printed_at_a_terminal_fits(typed, width, trained, monkeypatch, capsys):
    """But for words that nothing can break, such as a path."""
    for name, value in {"COLUMNS": str(width), "TERM": "xterm", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main([str({"RUN": trained, "RUNS": trained.parent}.get(word, word)) for word in typed]) == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out).splitlines()
    assert lines
    for line in lines:
        assert len(line.rstrip()) <= width or len(line.split()) == 1 or line.startswith("picture: /"), line


@pytest.mark.usefixtures("as_in_a_shell")
@pytest.mark.parametrize("width", WIDTHS)
def test_scores_fit(width, trained, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["evaluate", str(trained)]) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= max(width, 2 + len("bits/character 4.4469"))
    assert ("bits/character  " in output) == (width >= 80)
    assert "nats/token" in output
    assert "…" not in output


MEASURED = Compared("random-truncated:mean_length=16", "in expectation", 20, 0.98765, 0.1234, 12345.6, 0.01, 123456.7, 98_765_432_100)
REFUSED = Compared("rflo", "approximately", refused="RFLO is defined for leaky units; got GRU(). RTRL() takes every cell.")


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_of_a_comparison_fit(width):
    console = Console(width=width)
    lines = [header(console), *row_lines(MEASURED, console), *row_lines(REFUSED, console)]
    assert max(map(len, lines)) <= width
    assert "98765.43" in " ".join(lines)
    told = left_out({"rtrl": 24_000.0, "sliding:lags=3": 1.2}, console)
    assert " ".join(map(str.strip, told)) == (
        "left out, as too long for --minutes: rtrl (6.7 h), sliding:lags=3 (1 s). Give more --minutes, or --all."
    )
    assert left_out({}, console) == []


@pytest.mark.parametrize("width", [40, pytest.param(20, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.slow)])
def test_training_in_a_terminal(width, tmp_path):
    (tmp_path / "book.txt").write_text(TEXT)
    status, seen = in_a_terminal(["train", "text", "book.txt", *SMALL, "--out", "run"], tmp_path, width)
    assert status == 0, seen
    assert seen.startswith("loading ...")
    assert "run folder: run" in seen
    assert "Traceback" not in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")  # the cursor is back


class TestReadersThatGoAway:
    """In a process of its own: what becomes of the interpreter's last flush cannot be seen in this one."""

    @pytest.mark.parametrize(
        "how",
        [
            pytest.param("| head -1", marks=pytest.mark.slow),
            pytest.param(">&-", marks=pytest.mark.slow),
            pytest.param("> /dev/full", marks=pytest.mark.slow),
        ],
    )
    def test_a_run_goes_on(self, how, tmp_path):
        if shutil.which("bash") is None:
            pytest.skip("it needs bash")
        (tmp_path / "book.txt").write_text(TEXT)
        command = " ".join(["set -o pipefail;", *PROGRAM, "train text book.txt", *SMALL, "--out run", how])
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "run" / "curves.png").is_file()
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr
        if how != ">&-":
            assert "nobody reads what is printed here any more" in done.stderr

    def test_a_stream_that_breaks_is_told_once(self, tmp_path, capsys):
        class Broken:
            encoding = "utf-8"

            def fileno(self):
                raise OSError("no file")

            def write(self, text):
                raise BrokenPipeError(32, "Broken pipe")

        stream = Lasting(Broken())
        assert [stream.write("one"), stream.write("two")] == [3, 3]
        stream.flush()
        assert stream.encoding == "utf-8"
        assert capsys.readouterr().err == "throughtime: nobody reads what is printed here any more (Broken pipe); the work goes on.\n"


def test_nothing_of_torch_is_imported_to_read_what_is_typed():
    """A mistyped flag, help and the version are told at once."""
    code = (
        "import sys; from throughtime.cli import main\n"
        "for words in (['--version'], ['--help'], ['train', 'text', '--help-all'], ['sample', 'x', '--lenght', '3'], ['sample']):\n"
        "    main(words)\n"
        "print({'torch', 'numpy', 'rich', 'msgspec'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.endswith("set()\n"), done.stderr
    assert done.stderr.count("throughtime: ") == 2
