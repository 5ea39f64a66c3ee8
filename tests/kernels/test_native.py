"""torch's own kernels in the place that they have on other devices, run here on the CPU against the plain loop."""

import pytest
import torch
from _problems import problem
from _tables import CELLS, name
from _truth import assert_close, gradients

from throughtime.cells import GRU, LSTM, Elman, Relu
from throughtime.kernels import Traversal, _dispatch, _fast, _native, recurrence

HERE = [Elman(), Elman(Relu()), GRU(), LSTM()]


def results(cell, p, walk, once=False):
    leaves = [x.clone().requires_grad_() for x in (p.xs, *p.state, *(w for w in p.parameters if w is not None))]
    weights = iter(leaves[1 + cell.states :])
    parameters = type(p.parameters)(*(None if w is None else next(weights) for w in p.parameters))
    hs, last = recurrence(cell, leaves[0], tuple(leaves[1 : 1 + cell.states]), parameters, traversal=walk)
    torch.manual_seed(4)
    outputs = [hs] if once else [hs, *last]
    v = [torch.randn_like(y) for y in outputs]
    found = torch.autograd.grad(outputs, leaves, v, create_graph=True)
    second = gradients(found, [torch.randn_like(g) for g in found], leaves)
    return [*outputs, *gradients(outputs, v, leaves), *found, *second]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("cell", HERE, ids=str)
def test_first_and_second_derivatives(cell, reverse, bias):
    p = problem(cell, (5, 3, 2, 4), bias=bias)
    for once in (True, False):
        wanted = results(cell, p, Traversal(reverse=reverse), once)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_fast, "supports", lambda cell, xs: "not here")
            patch.setattr(_dispatch, "kernels_for", lambda *_: "native")
            assert_close(results(cell, p, Traversal(reverse=reverse), once), wanted)


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_who_is_served(cell):
    p = problem(cell, (5, 3, 2, 4), lengths=True, reset=True)
    bare = _native.serves(cell, p.parameters, Traversal(), None)
    assert bare == (cell in HERE)
    assert not _native.serves(cell, p.parameters, Traversal(lengths=p.traversal.lengths), None)
    assert not _native.serves(cell, p.parameters, Traversal(reset=p.traversal.reset), None)
    assert not _native.serves(cell, p.parameters, Traversal(), 1.0)
    assert not _native.serves(cell, p.parameters._replace(W=None, b_ih=None), Traversal(), None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_on_a_gpu(cell):
    p = problem(cell, (5, 3, 2, 4), lengths=True, reset=True)
    for walk in (Traversal(), Traversal(reverse=True), Traversal(p.traversal.lengths, p.traversal.reset, p.traversal.restart)):
        wanted = results(cell, p, walk)
        there = lambda x: None if x is None else x.cuda()
        restart = None if walk.restart is None else tuple(map(there, walk.restart))
        moved = type(p)(cell, p.xs.cuda(), tuple(map(there, p.state)), type(p.parameters)(*map(there, p.parameters)), walk, None, None)
        got = results(cell, moved, Traversal(there(walk.lengths), there(walk.reset), restart, walk.reverse))
        assert_close([g.cpu() for g in got[: 1 + cell.states]], wanted[: 1 + cell.states])
