"""One region of threads per call: bits, re-entrance, forks, the end of the interpreter."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
from _problems import arrays, by_kernels, problem, rounding
from _rounding import relative
from _tables import first

from throughtime.cells import GRU, LSTM, Elman, Tanh

CELLS = [Elman(Tanh()), GRU(), LSTM()]
SIZES = [(60, 1, 64, 160), (30, 32, 40, 70)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_same_threads_same_bits(cell, sizes, threads):
    p = problem(cell, sizes).to(torch.float32)
    first = arrays(*by_kernels(p, threads=threads))
    for _ in range(3):
        for name, a in arrays(*by_kernels(p, threads=threads)).items():
            assert torch.equal(a, first[name]), name


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_another_number_of_threads_changes_rounding_alone(cell, sizes):
    """Threads divide rows otherwise into tiles, and each adds up its own part of the sums over time and streams."""
    p = problem(cell, sizes).to(torch.float32)
    one = arrays(*by_kernels(p, threads=1))
    for threads in (2, 3):
        for name, a in arrays(*by_kernels(p, threads=threads)).items():
            assert relative(a, one[name]) <= rounding(sizes, torch.float32), name


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_two_python_threads_at_once(sizes):
    p = problem(GRU(), sizes)
    truth = arrays(*by_kernels(p, threads=2))
    wrong = []

    def work() -> None:
        for _ in range(15):
            got = arrays(*by_kernels(p, threads=2))
            wrong.extend(name for name, a in got.items() if not torch.equal(a, truth[name]))

    workers = [threading.Thread(target=work) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def run_python(code: str) -> subprocess.CompletedProcess:
    head = "import sys; sys.path.insert(0, %r)\nimport torch\nfrom _problems import *\nfrom throughtime.cells import *\n"
    code = head % str(Path(__file__).parents[1] / "support") + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_fork_after_use():
    done = run_python(
        """
        import os
        torch.set_num_threads(1)  # torch's own pool does not survive a fork
        p = problem(GRU(), (30, 32, 40, 70)); q = problem(GRU(), (60, 1, 64, 160))
        truth = [arrays(*by_kernels(r, threads=2)) for r in (p, q)]
        child = os.fork()
        same = all(torch.equal(a, t[n]) for r, t in zip((p, q), truth) for n, a in arrays(*by_kernels(r, threads=2)).items())
        if child == 0:
            os._exit(0 if same else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and same
        """
    )
    assert done.returncode == 0, done.stderr


BUSY = """
import threading, time
def forever():
    while True: by_kernels(p, threads=2)
threading.Thread(target=forever, daemon=True).start()
"""


ENDINGS = ["pass", f"{BUSY}time.sleep(0.1)", "raise SystemExit(0)", *(f"{BUSY}time.sleep({s})" for s in (0.05, 0.15, 0.2))]


@pytest.mark.parametrize("ending", first(ENDINGS[1:2], ENDINGS))
def test_the_interpreter_ends(ending):
    """Quietly, also with a daemon thread in a kernel or between two of them."""
    done = run_python(f"p = problem(LSTM(), (30, 32, 40, 70))\nby_kernels(p, threads=2)\n{ending}")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux lists them")
@pytest.mark.slow
def test_a_team_has_its_members():
    """One sequence on two threads: a worker for the second half of the units is hired on the first call."""
    done = run_python(
        """
        import os
        torch.set_num_threads(1)
        p = problem(GRU(), (60, 1, 64, 160))
        before = len(os.listdir("/proc/self/task"))
        by_kernels(p, threads=2)
        assert len(os.listdir("/proc/self/task")) == before + 1
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux lists them")
@pytest.mark.slow
def test_the_threads_are_those_of_torch():
    """Once torch has its threads, a kernel starts none of its own, which would contend with them for the cores."""
    done = run_python(
        """
        import os
        torch.set_num_threads(2)
        torch.exp(torch.zeros(1_000_000))
        before = len(os.listdir("/proc/self/task"))
        for sizes in ((60, 1, 64, 160), (30, 32, 40, 70)):
            by_kernels(problem(GRU(), sizes), threads=2)
        assert len(os.listdir("/proc/self/task")) == before
        """
    )
    assert done.returncode == 0, done.stderr
