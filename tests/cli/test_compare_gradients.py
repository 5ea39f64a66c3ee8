"""``throughtime compare-gradients`` as a person types it."""

import json
import math
import threading
import time
from pathlib import Path

import pytest
import torch
from _tables import first

from throughtime.cli import _compare_gradients, main
from throughtime.cli._compare_gradients import _fitting
from throughtime.cli._time_limit import OutOfTimeError, time_limit
from throughtime.gradients._compare import peak_bytes
from throughtime.training import Estimate

SMALL = ["--length", "20", "--batch-size", "3", "--hidden", "5", "--draws", "2", "--threads", "1"]


@pytest.fixture(autouse=True)
def _as_in_a_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    torch.set_default_dtype(torch.float32)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("task", first(["adding", "text"], ["copy", "adding", "delayed-addition", "temporal-order", "text"]))
def test_every_task(task, capsys):
    assert main(["compare-gradients", "--task", task, *SMALL, "--methods", "full", "sliding:lags=3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    full, sliding = found["methods"]
    assert full["bias"] < 1e-12 < sliding["bias"]
    assert found["about"] == f"{task}: GRU, 5 units, 20 steps of 3 streams"
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_table_fits_and_names_every_method(capsys):
    assert (
        main(["compare-gradients", "--task", "copy", *SMALL, "--cell", "rnn", "--orthogonal", "--layers", "2", "--picture", "p.png"]) == 0
    )
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert "copy: Elman, 5 units, 2 layers, 20 steps of 3 streams" in output
    assert all(name in output for name in ("full", "truncated", "sliding", "random-truncated", "adaptive", "picture: p.png"))


def test_a_run(capsys, tmp_path):
    (tmp_path / "book.txt").write_text("the big cat sat on the old mat.\n" * 60)
    small = ["--hidden", "6", "--batch-size", "4", "--bptt", "8", "--steps", "2", "--threads", "1", "--out", "run"]
    assert main(["train", "text", "book.txt", *small]) == 0
    capsys.readouterr()
    assert main(["compare-gradients", "run", *SMALL[:4], "--methods", "full", "truncated:k1=4"]) == 0
    assert "run, valid part: GRU, 6 units, 20 steps of 2 streams" in capsys.readouterr().out  # the text has room for two
    assert Path("run/gradients.png").is_file()
    assert main(["compare-gradients", "run", "--length", "5000"]) == 2
    assert "steps; expected 5,000 or more for --length 5000. Lower --length." in capsys.readouterr().err


def test_a_slow_method_comes_last_so_that_it_keeps_none_out():
    assert _fitting({"slow": 50.0, "quick": 1.0, "free": 0.0, "slower": 90.0}, 60.0) == ["quick", "free", "slow"]
    assert _fitting({"slow": 50.0, "slower": 90.0}, 1.0) == ["slow"]


class TestBudget:
    """Estimates err: here each is nothing, and a method takes as long as it is let."""

    @pytest.fixture(autouse=True)
    def _slow_sliding(self, monkeypatch):
        real = _compare_gradients.compare
        peak_bytes(lambda: None)  # torch's profiler takes seconds to begin, once

        def slowly(model, batch, methods, **options):
            ends = time.monotonic() + 60  # should nobody give it up
            while "sliding:lags=3" in methods and time.monotonic() < ends:
                time.sleep(0.001)
            return real(model, batch, methods, **options)

        monkeypatch.setattr(_compare_gradients, "compare", slowly)
        monkeypatch.setattr(_compare_gradients, "estimate", lambda *_: Estimate(0.0, 0))

    @pytest.mark.slow
    def test_a_method_is_given_up_when_the_time_is_over(self, capsys):
        methods = ["full", "sliding:lags=3", "rtrl"]
        assert main(["compare-gradients", "--task", "adding", *SMALL, "--minutes", "0.05", "--methods", *methods]) == 0
        output = " ".join(capsys.readouterr().out.split())
        assert " full 1.0000 " in output
        assert "given up when --minutes were over: sliding:lags=3 (" in output
        assert "left out, as too long for --minutes: rtrl (0 s). Give more --minutes, or --all. picture: gradients.png" in output

    @pytest.mark.slow
    def test_json_has_it_by_name(self, capsys):
        methods = ["full", "sliding:lags=3"]
        assert main(["compare-gradients", "--task", "adding", *SMALL, "--minutes", "0.05", "--methods", *methods, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in found["methods"]] == ["full"]
        assert list(found["given_up"]) == ["sliding:lags=3"]
        assert found["left_out"] == {}


def test_a_time_limit():
    with pytest.raises(OutOfTimeError), time_limit(0.01):
        time.sleep(60)
    with time_limit(60), time_limit(math.inf):
        pass

    def elsewhere():
        with time_limit(1e-9):  # the alarm is the main thread's
            time.sleep(0.01)
        done.set()

    done = threading.Event()
    aside = threading.Thread(target=elsewhere)
    aside.start()
    aside.join()
    assert done.is_set()
