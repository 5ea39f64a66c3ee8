"""A layer whose input half wx is made by the caller: the same run as with W and b_ih, and d(wx) comes back."""

import pytest
import torch
from _problems import by_kernels, by_plain, problem

from throughtime.cells import GRU, LSTM, Elman
from throughtime.kernels import Parameters, _fast, _plain


def given(p):
    """The same problem with wx (T, B, G, H) in place of xs, W and b_ih."""
    W, R, b_ih, b_hh = p.parameters
    wx = torch.einsum("tbi,ghi->tbgh", p.xs, W) + (0 if b_ih is None else b_ih)
    return type(p)(p.cell, wx, p.state, Parameters(None, R, None, b_hh), p.traversal, p.dhs, p.dlast, p.clip)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("arch", _fast.architectures())
@pytest.mark.parametrize("keep", ["fast", "lean"])
@pytest.mark.parametrize("walk", [{}, {"lengths": True, "reset": True}, {"reverse": True, "clip": 0.5}], ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 3, 5), (7, 3, 4, 9), (300, 9, 2, 33), (5, 1, 3, 17)], ids=str)
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_agrees_with_the_plain_loop(cell, sizes, walk, keep, arch, threads):
    p = problem(cell, sizes, **walk)
    run, d = by_kernels(given(p), keep=keep, threads=threads, arch=arch)
    truth, wanted = by_plain(given(p))
    assert d.parameters.W is None
    assert d.parameters.b_ih is None
    pairs = [(run.hs, truth.hs), (d.dxs, wanted.dxs), (d.parameters.R, wanted.parameters.R), (d.parameters.b_hh, wanted.parameters.b_hh)]
    for got, want in [*pairs, *zip(run.last, truth.last, strict=True), *zip(d.dstate, wanted.dstate, strict=True)]:
        assert (got - want).abs().max() <= 1e-12 * want.abs().max()


def test_the_plain_loop_itself_agrees_with_weights():
    p = problem(GRU(), (7, 3, 4, 9))
    truth, wanted = by_plain(p)
    run, d = by_plain(given(p))
    W = p.parameters.W
    assert (run.hs - truth.hs).abs().max() <= 1e-13
    dW = torch.einsum("tbgh,tbi->ghi", d.dxs, p.xs)
    assert (dW - wanted.parameters.W).abs().max() <= 1e-12 * dW.abs().max()
    assert (torch.einsum("tbgh,ghi->tbi", d.dxs, W) - wanted.dxs).abs().max() <= 1e-12 * wanted.dxs.abs().max()


def test_wrong_shapes_and_a_bias_without_weights():
    p = given(problem(GRU(), (7, 3, 4, 9)))
    with pytest.raises(ValueError, match=r"xs is float64 \(7, 3, 9\) and W is None; expected \(T, B, G, H\)"):
        _fast.forward(p.cell, p.xs[:, :, 0].contiguous(), p.state, p.parameters)
    with pytest.raises(ValueError, match="b_ih is given and W is None"):
        _fast.forward(p.cell, p.xs, p.state, Parameters(None, p.parameters.R, p.parameters.b_hh, None))
    assert _plain.forward(p.cell, p.xs, p.state, p.parameters).hs.shape == (7, 3, 9)
