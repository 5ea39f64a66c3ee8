"""The online example, short: it learns, it stops where it is told to, and a Ctrl-C ends it with a report."""

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "online.py"
REPORT = re.compile(r"(.+): ([\d,]+) steps, error ([\d.]+) over the last ([\d,]+); copying ([\d.]+)\n$")


def run(monkeypatch, capsys, *flags):
    """The example in this process, on one thread while it runs."""
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(sys, "argv", ["online.py", *flags])
    try:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    return REPORT.search(capsys.readouterr().out).groups()


@pytest.mark.slow
def test_it_does_better_than_copying(monkeypatch, capsys):
    name, steps, ours, window, copying = run(monkeypatch, capsys, "--steps", "400", "--window", "100", "--rate", "0.02", "--hidden", "8")
    assert (name, steps, window) == ("RTRL()", "400", "100")
    assert float(ours) < 0.8 * float(copying)


@pytest.mark.parametrize("method", ["snap", "uoro", "eprop", "truncated"])
def test_every_method_follows(monkeypatch, capsys, method):
    _, steps, *_ = run(monkeypatch, capsys, "--steps", "20", "--method", method)
    assert steps == "20"


@pytest.mark.slow
def test_ctrl_c_reports_what_has_been_reached():
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, EXAMPLE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout.readline() == "RTRL() follows; Ctrl-C stops it\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    _, steps, *_ = REPORT.search(out).groups()
    assert 0 <= int(steps.replace(",", "")) < 1_000_000


def test_bad_sizes_get_a_sentence(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "--steps", "0")
    assert "--steps, --hidden and --window are at least 1" in capsys.readouterr().err
