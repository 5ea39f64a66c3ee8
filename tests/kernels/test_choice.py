"""What is chosen for the whole process: the kernels, and their threads."""

import pytest
import torch

from throughtime import InputError
from throughtime.cells import GRU
from throughtime.kernels import _fast, get_kernels, get_threads, set_kernels, set_threads
from throughtime.nn import Recurrence


@pytest.fixture(autouse=True)
def _as_it_was():
    kernels = get_kernels()
    yield
    set_kernels(kernels)
    set_threads(None)


def test_threads_are_those_that_were_set_and_else_torchs(monkeypatch):
    set_threads(3)
    assert get_threads() == 3
    set_threads(None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert get_threads() == 5


def test_kernels_are_those_that_were_set():
    for choice in ("plain", "fast"):
        set_kernels(choice)
        assert get_kernels() == choice


@pytest.mark.parametrize("number", [0, -1, 1025])
def test_numbers_that_no_machine_has(number):
    with pytest.raises(InputError, match=f"threads is {number}"):
        set_threads(number)


def test_an_install_without_the_extension_says_so_once(monkeypatch, caplog):
    """A user without a compiler would otherwise wonder why it is slow, and not learn what to do."""
    _fast.tell_once.cache_clear()
    monkeypatch.setattr(_fast, "_missing", "the extension is not there; reinstall with a C++20 compiler")
    for _ in range(2):
        hs, _ = Recurrence(GRU(), 2, 3)(torch.ones(4, 1, 2))
        assert hs.shape == (4, 1, 3)
    assert caplog.messages == ["throughtime runs the plain loop, which is right and slow: the extension is not there; reinstall with a C++20 compiler."]
    _fast.tell_once.cache_clear()
