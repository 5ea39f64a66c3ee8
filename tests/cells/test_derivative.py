"""One step's derivative against torch.func's Jacobians, for every cell."""

import pytest
import torch
from _tables import CELLS, name
from _truth import assert_close

from throughtime.cells import derivative

N, H = 3, 4


def point(cell):
    return torch.randn(N, cell.gates, H), torch.randn(N, cell.gates, H), tuple(torch.randn(N, H) for _ in range(cell.states))


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_push_and_pull_are_the_jacobian_and_its_transpose(cell):
    wx, rh, state = point(cell)
    linear = derivative(cell, wx, rh, state)
    K = 2  # tangents side by side
    dwx, drh = torch.randn(2, cell.gates, K, N, H)
    dstate, adjoint = torch.randn(2, cell.states, K, N, H)
    for k in range(K):
        tangents = (dwx[:, k].transpose(0, 1), drh[:, k].transpose(0, 1), tuple(dstate[:, k]))
        wanted = torch.func.jvp(cell.step, (wx, rh, state), tangents)[1]
        assert_close([linear.push(dwx, drh, dstate)[:, k]], [torch.stack(wanted)])
        wanted_wx, wanted_rh, wanted_state = torch.func.vjp(cell.step, wx, rh, state)[1](tuple(adjoint[:, k]))
        got = [part[:, k] for part in linear.pull(adjoint)]
        assert_close(got, [wanted_wx.transpose(0, 1), wanted_rh.transpose(0, 1), torch.stack(wanted_state)])


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_what_calls_itself_elementwise_is(cell):
    wx, rh, state = point(cell)
    jacobians = torch.func.jacrev(cell.step, argnums=(0, 1, 2))(wx, rh, state)
    mixes = False
    for of_s in jacobians:
        for J in (of_s[0].movedim(-2, 0), of_s[1].movedim(-2, 0), torch.stack(of_s[2])):  # (G or S, N, H, N, H)
            own = torch.einsum("gninj->gnij", J)
            mixes |= bool((own - torch.diag_embed(own.diagonal(dim1=-2, dim2=-1))).abs().max() > 1e-12)
    assert not (cell.elementwise and mixes)
