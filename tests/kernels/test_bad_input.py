"""Called directly with anything: an exception that says got, expected, remedy. Never a crash."""

import numpy as np
import pytest
import torch
from _problems import problem

from throughtime import _kernels
from throughtime.cells import GRU, LSTM

T, B, I, H = 4, 3, 5, 6
FORWARD = "cell xs h0 c0 W R b_ih b_hh lengths reset restart_h restart_c reverse keep hs h_last c_last kept threads".split()
BACKWARD = (
    "cell xs h0 c0 W R b_ih b_hh lengths reset restart_h restart_c reverse keep hs kept dhs dh_last dc_last clip "
    "dxs dW dR db_ih db_hh dh0 dc0 drestart_h drestart_c threads"
).split()


def arguments(direction: list[str]) -> dict:
    p = problem(LSTM(), (T, B, I, H)).to(torch.float32)
    W, R, b_ih, b_hh = p.parameters
    state = torch.zeros(B, H)
    known = dict(
        cell=_kernels.LSTM, xs=p.xs, h0=state, c0=state, W=W, R=R, b_ih=b_ih, b_hh=b_hh,
        lengths=torch.full((B,), T), reset=torch.zeros(T, B, dtype=torch.bool), restart_h=state, restart_c=state,
        reverse=False, keep="fast", hs=torch.empty(T, B, H), h_last=torch.empty(B, H), c_last=torch.empty(B, H),
        kept=torch.empty(_kernels.kept_size(_kernels.LSTM, T, B, H, "fast", False)), threads=1,
        dhs=torch.zeros(T, B, H), dh_last=state, dc_last=state, clip=-1.0, dxs=torch.empty(T, B, I),
        dW=torch.empty_like(W), dR=torch.empty_like(R), db_ih=torch.empty_like(b_ih), db_hh=torch.empty_like(b_hh),
        dh0=torch.empty(B, H), dc0=torch.empty(B, H), drestart_h=torch.empty(B, H), drestart_c=torch.empty(B, H),
    )  # fmt: skip
    return {name: known[name] for name in direction}


CALLS = [("forward", FORWARD), ("backward", BACKWARD)]
ARRAYS = [(call, names, n) for call, names in CALLS for n in names if n not in ("cell", "reverse", "keep", "clip", "threads")]


@pytest.mark.parametrize(("call", "names"), CALLS)
def test_the_good_call_passes(call, names):
    getattr(_kernels, call)(*arguments(names).values())


@pytest.mark.parametrize(("call", "names", "array"), ARRAYS)
def test_wrong_shape(call, names, array):
    a = arguments(names)
    for wrong in (a[array][None], a[array].flatten()[:-1], torch.empty(0, dtype=a[array].dtype), a[array].new_empty([1] * 40)):
        with pytest.raises(ValueError, match=r"expected|axes"):
            getattr(_kernels, call)(*(a | {array: wrong}).values())


@pytest.mark.parametrize(("call", "names", "array"), ARRAYS)
def test_wrong_type(call, names, array):
    a = arguments(names)
    for wrong in (a[array].to(torch.int32), a[array].to(torch.float64), a[array].to(torch.complex64)):
        with pytest.raises(TypeError, match="expected"):
            getattr(_kernels, call)(*(a | {array: wrong}).values())
    for wrong in ("text", 3, [1.0], object()):
        with pytest.raises(TypeError, match=f"{array} is a .*expected an array"):
            getattr(_kernels, call)(*(a | {array: wrong}).values())


@pytest.mark.parametrize(("call", "names", "array"), ARRAYS)
def test_strided_or_elsewhere(call, names, array):
    a = arguments(names)
    twice = torch.empty([2 * n for n in a[array].shape], dtype=a[array].dtype)
    strided = twice[tuple(slice(None, None, 2) for _ in a[array].shape)]
    with pytest.raises(ValueError, match=f"{array} is not contiguous.*contiguous()"):
        getattr(_kernels, call)(*(a | {array: strided}).values())
    with pytest.raises((ValueError, TypeError, BufferError, RuntimeError)):
        getattr(_kernels, call)(*(a | {array: a[array].to("meta")}).values())


@pytest.mark.parametrize(("call", "names"), CALLS)
def test_nothing_where_something_is_needed(call, names):
    a = arguments(names)
    for array in ("xs", "h0", "c0", "R", "hs", "kept"):
        with pytest.raises(TypeError, match=array):
            getattr(_kernels, call)(*(a | {array: None}).values())
    with pytest.raises(ValueError, match=r"W is None; expected \(T, B, G, H\)"):
        getattr(_kernels, call)(*(a | {"W": None}).values())


def test_read_only_results():
    a = arguments(FORWARD)
    hs = np.empty((T, B, H), np.float32)
    hs.flags.writeable = False
    with pytest.raises(ValueError, match=r"hs is read-only.*Pass a writable"):
        _kernels.forward(*(a | {"hs": hs}).values())


def test_numpy_serves_as_well_as_torch():
    a = arguments(FORWARD)
    _kernels.forward(*a.values())
    b = {k: v.numpy().copy() if isinstance(v, torch.Tensor) else v for k, v in arguments(FORWARD).items()}
    b["xs"].flags.writeable = False  # what is only read may be read-only
    _kernels.forward(*b.values())
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
        _kernels.forward(*(arguments(FORWARD) | change).values())
    if "threads" not in change:
        with pytest.raises(ValueError, match=message):
            _kernels.backward(*(arguments(BACKWARD) | change).values())


def test_an_architecture_of_another_machine():
    with pytest.raises(ValueError, match="arch is 'vax'"):
        _kernels.forward(*arguments(FORWARD).values(), "vax")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_numbers_that_are_not_finite_stay_in_their_sequence(value):
    from _problems import by_kernels

    p = problem(GRU(), (T, B, I, H)).to(torch.float32)
    clean, _ = by_kernels(p)
    p.xs[1, 0, 0] = value
    run, _ = by_kernels(p)
    assert torch.equal(run.hs[:, 1:], clean.hs[:, 1:])
    assert run.hs[2:, 0].isnan().any() == (value != value)
