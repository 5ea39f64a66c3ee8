"""A layer whose input half wx is made by the caller: the same run as with W and b_ih, and d(wx) comes back."""

import itertools

import pytest
import torch
from _problems import arrays, assert_close, by_kernels, by_plain, problem, rounding

from throughtime.cells import GRU, LSTM, Elman
from throughtime.kernels import Parameters, RecurrentParameters, _fast, _plain


def given(p):
    """The same problem with wx (T, B, G, H) in place of xs, W and b_ih."""
    W, R, b_ih, b_hh = p.parameters
    wx = torch.einsum("tbi,ghi->tbgh", p.xs, W) + (0 if b_ih is None else b_ih)
    return type(p)(p.cell, wx, p.state, RecurrentParameters(R, b_hh), p.traversal, p.dhs, p.dlast, p.clip)


@pytest.mark.parametrize("walk", [{}, {"lengths": True, "reset": True}, {"reverse": True, "clip": 0.5}], ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 3, 5), (7, 3, 4, 9), (60, 9, 2, 33), (5, 1, 3, 17)], ids=str)
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_agrees_with_the_plain_loop(cell, sizes, walk):
    p = given(problem(cell, sizes, **walk))
    truth = arrays(*by_plain(p))
    for keep, arch, threads in itertools.product(("fast", "lean"), _fast.architectures(), (1, 2)):
        run, d = by_kernels(p, keep=keep, threads=threads, arch=arch)
        assert isinstance(d.parameters, RecurrentParameters)
        assert_close(arrays(run, d), truth, rounding(sizes))


def test_the_plain_loop_itself_agrees_with_weights():
    p = problem(GRU(), (7, 3, 4, 9))
    truth, wanted = by_plain(p)
    run, d = by_plain(given(p))
    W = p.parameters.W
    assert (run.hs - truth.hs).abs().max() <= rounding((7, 3, 4, 9))
    dW = torch.einsum("tbgh,tbi->ghi", d.dxs, p.xs)
    assert (dW - wanted.parameters.W).abs().max() <= rounding((7, 3, 4, 9)) * dW.abs().max()
    assert (torch.einsum("tbgh,ghi->tbi", d.dxs, W) - wanted.dxs).abs().max() <= rounding((7, 3, 4, 9)) * wanted.dxs.abs().max()


def test_wrong_shapes_and_a_bias_without_weights():
    p = given(problem(GRU(), (7, 3, 4, 9)))
    with pytest.raises(ValueError, match=r"xs is float64 \(7, 3, 9\) and W is None; expected \(T, B, G, H\)"):
        _fast.forward(p.cell, p.xs[:, :, 0].contiguous(), p.state, p.parameters)
    with pytest.raises(ValueError, match="b_ih is given and W is None"):
        _fast.forward(p.cell, p.xs, p.state, Parameters(None, p.parameters.R, p.parameters.b_hh, None))
    assert _plain.forward(p.cell, p.xs, p.state, p.parameters).hs.shape == (7, 3, 9)
