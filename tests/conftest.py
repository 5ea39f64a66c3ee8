"""Annotations are checked while the tests run, shapes and all, in float64 unless a test says otherwise."""

import os
import signal
import tempfile
import zlib

import jaxtyping
import pytest
import torch
from hypothesis import settings

# The quick suite draws the same examples everywhere and every time, so that it is green or red for a reason; make test-all draws new ones.
settings.register_profile("quick", max_examples=10, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=20, deadline=None)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
settings.load_profile(PROFILE)

# Checking annotations takes half of the tests' time. The quick suite checks them in every fourth test, and each function is called by
# more than four; make test-all checks them in all.
CHECKED_ONE_OF = 4 if PROFILE == "quick" else 1

# The problems of the tests are too small to share between threads: two would do the same in twice the time. For the processes
# that tests start as well; tests of threads ask for their own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

# The compiled cells of the tests are kept from run to run, and apart from the user's.
os.environ.setdefault("THROUGHTIME_CACHE", os.path.join(tempfile.gettempdir(), f"throughtime-tests-{os.getuid()}"))

# A job in the background of a shell ignores Ctrl-C, and so would the programs that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _float64_and_a_seed():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def _annotations(request):
    """By a test's name, so that it is checked on every machine or on none."""
    jaxtyping.config.update("jaxtyping_disable", zlib.crc32(request.node.nodeid.encode()) % CHECKED_ONE_OF != 0)


@pytest.fixture
def shapes_unchecked(_annotations):
    """For tests of our own messages about shapes, which a user meets without the checks of the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)


def pytest_collection_modifyitems(items):
    """A test is to have one name in every process, or pytest-xdist cannot share the tests out."""
    if changing := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"an address stands in the name of {changing[0]}; give the test ids=name, of tests/support/_tables.py.")


def pytest_terminal_summary(terminalreporter):
    """How much of PyTorch's own battery ran, and how much of that passed."""
    counts = {
        outcome: sum("test_torch_battery.py::" in report.nodeid for report in terminalreporter.getreports(outcome))
        for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
    }
    if ran := sum(counts.values()):
        terminalreporter.write_line(f"PyTorch's own battery: {counts['passed']} passed of {ran} run, {counts['skipped']} skipped")
