"""What is chosen for the whole process: the kernels, and their threads."""

import pytest
import torch

from throughtime import InputError
from throughtime.kernels import get_kernels, get_threads, set_kernels, set_threads


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
