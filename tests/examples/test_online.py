"""The online example, short: it learns, it stops where it is told to, and a Ctrl-C ends it with a report."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "online.py"
REPORT = re.compile(r"^(.+): ([\d,]+) steps, error ([\d.]+) over the last ([\d,]+); copying ([\d.]+)\n$")


def start(*flags):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, EXAMPLE, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("method", ["rtrl", "truncated"])
def test_it_does_better_than_copying(method):
    process = start("--steps", "1200", "--window", "200", "--rate", "0.01", "--method", method)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    _, steps, ours, window, copying = REPORT.match(out.split("\n", 1)[1]).groups()
    assert (steps, window) == ("1,200", "200")
    assert float(ours) < 0.8 * float(copying)


def test_ctrl_c_reports_what_has_been_reached():
    process = start("--window", "10")
    try:
        assert process.stdout.readline() == "RTRL() follows; Ctrl-C stops it\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    _, steps, *_ = REPORT.match(out).groups()
    assert 0 <= int(steps.replace(",", "")) < 1_000_000


def test_bad_sizes_get_a_sentence():
    _, err = (process := start("--steps", "0")).communicate(timeout=60)
    assert process.returncode == 2
    assert "--steps, --hidden and --window are at least 1" in err
