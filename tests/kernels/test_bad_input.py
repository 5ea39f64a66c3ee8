"""Called directly with anything: an exception that says got, expected, remedy. Never a crash."""

import re

import numpy as np
import pytest
import torch
from _direct import BACKWARD, FORWARD, arguments, call
from _problems import by_kernels, problem

from throughtime import _kernels
from throughtime.cells import GRU

T, B, I, H = 4, 3, 5, 6
CALLS = [("forward", FORWARD), ("backward", BACKWARD)]
ARRAYS = [(way, names, n) for way, names in CALLS for n in names if n not in ("cell", "reverse", "keep", "clip", "threads")]


@pytest.mark.parametrize(("way", "names"), CALLS)
def test_the_good_call_passes(way, names):
    call(way, arguments(names))


@pytest.mark.parametrize(("way", "names", "array"), ARRAYS)
def test_wrong_shape(way, names, array):
    a = arguments(names)
    for wrong in (a[array][None], a[array].flatten()[:-1], torch.empty(0, dtype=a[array].dtype), a[array].new_empty([1] * 40)):
        with pytest.raises(ValueError, match=r"expected|axes"):
            call(way, a | {array: wrong})


@pytest.mark.parametrize(("way", "names", "array"), ARRAYS)
def test_wrong_type(way, names, array):
    a = arguments(names)
    for wrong in (a[array].to(torch.int32), a[array].to(torch.float64), a[array].to(torch.complex64)):
        with pytest.raises(TypeError, match="expected"):
            call(way, a | {array: wrong})
    for wrong in ("text", 3, [1.0], object()):
        with pytest.raises(TypeError, match=f"{re.escape(array)} is a .*expected an array"):
            call(way, a | {array: wrong})


@pytest.mark.parametrize(("way", "names", "array"), ARRAYS)
def test_strided_or_elsewhere(way, names, array):
    a = arguments(names)
    twice = torch.empty([2 * n for n in a[array].shape], dtype=a[array].dtype)
    strided = twice[tuple(slice(None, None, 2) for _ in a[array].shape)]
    with pytest.raises(ValueError, match=f"{re.escape(array)} is not contiguous.*contiguous()"):
        call(way, a | {array: strided})
    with pytest.raises((ValueError, TypeError, BufferError, RuntimeError)):
        call(way, a | {array: a[array].to("meta")})


@pytest.mark.parametrize(("way", "names"), CALLS)
def test_nothing_where_something_is_needed(way, names):
    a = arguments(names)
    for array in ("xs", "state[0]", "state[1]", "R", "hs", "residuals"):
        with pytest.raises(TypeError, match=re.escape(array)):
            call(way, a | {array: None})
    with pytest.raises(ValueError, match=r"W is None; expected \(T, B, G, H\)"):
        call(way, a | {"W": None})


def test_read_only_results():
    a = arguments(FORWARD)
    hs = np.empty((T, B, H), np.float32)
    hs.flags.writeable = False
    with pytest.raises(ValueError, match=r"hs is read-only.*Pass a writable"):
        call("forward", a | {"hs": hs})


def test_numpy_serves_as_well_as_torch():
    a = arguments(FORWARD)
    call("forward", a)
    b = {k: v.numpy().copy() if isinstance(v, torch.Tensor) else v for k, v in arguments(FORWARD).items()}
    b["xs"].flags.writeable = False  # what is only read may be read-only
    call("forward", b)
    np.testing.assert_array_equal(a["hs"].numpy(), b["hs"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": torch.tensor([1, 5, 2])}, r"lengths\[1\] is 5; expected 0 to T = 4"),
        ({"lengths": torch.tensor([1, -1, 2])}, r"lengths\[1\] is -1"),
        ({"keep": "some"}, "keep is 'some'; expected 'fast'"),
        ({"cell": 17}, "cell is 17; expected one of"),
        ({"cell": -1}, "cell is -1; expected one of"),
        ({"threads": 0}, "threads is 0; expected at least 1"),
        ({"cell": _kernels.GRU}, "W has shape .4, 6, 5.; expected .G, H, I. = .3, 6, 5."),
    ],
)
def test_wrong_values(change, message):
    with pytest.raises(ValueError, match=message):
        call("forward", arguments(FORWARD) | change)
    if "threads" not in change:
        with pytest.raises(ValueError, match=message):
            call("backward", arguments(BACKWARD) | change)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: _kernels.forward([], ()), TypeError, "a list was given; expected the tuple call = .cell, xs, state"),
        (lambda: _kernels.forward((1, 2), ()), ValueError, "a tuple of 2 was given; expected call = .cell, xs, state"),
        (lambda: call("forward", arguments(FORWARD) | {"cell": "gru"}), TypeError, "cell is a str; expected one of this module"),
        (lambda: call("forward", arguments(FORWARD) | {"threads": 1.5}), TypeError, "threads is a float; expected an int"),
        (lambda: call("forward", arguments(FORWARD) | {"reverse": 1}), TypeError, "reverse is a int; expected a bool"),
        (lambda: call("forward", arguments(FORWARD) | {"keep": None}), TypeError, "keep is a NoneType; expected 'fast'"),
        (lambda: call("backward", arguments(BACKWARD) | {"clip": "no"}), TypeError, "clip is a str; expected a float or None"),
    ],
)
def test_a_call_that_is_none(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_architecture_of_another_machine():
    with pytest.raises(ValueError, match="arch is 'vax'"):
        call("forward", arguments(FORWARD), "vax")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_numbers_that_are_not_finite_stay_in_their_sequence(value):
    p = problem(GRU(), (T, B, I, H)).to(torch.float32)
    clean, _ = by_kernels(p)
    p.xs[1, 0, 0] = value
    run, _ = by_kernels(p)
    assert torch.equal(run.hs[:, 1:], clean.hs[:, 1:])
    assert run.hs[2:, 0].isnan().any() == (value != value)
