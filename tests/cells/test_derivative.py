"""What a cell says about itself: one step's derivative, against torch.func's Jacobians, and its gates."""

import pytest
import torch
from _tables import CELLS, name
from _truth import assert_close

from throughtime.cells import GRU, LSTM, AbstractCell, Relu, Sigmoid, Tanh, derivative

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


def blocks(linear):
    return [linear.by_wx, linear.by_rh, linear.by_state]


@pytest.mark.parametrize("cell", [c for c in CELLS if type(c).derivative is not AbstractCell.derivative], ids=name)
def test_the_closed_form_is_the_generic_derivative(cell):
    wx, rh, state = point(cell)
    closed, generic = cell.derivative(wx, rh, state), AbstractCell.derivative(cell, wx, rh, state)
    assert closed.elementwise == generic.elementwise == cell.elementwise
    assert [b.shape for b in blocks(closed)] == [b.shape for b in blocks(generic)]
    assert_close(blocks(closed), blocks(generic))


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_a_cell_adds_its_halves_where_it_says_so(cell):
    linear = derivative(cell, *point(cell))
    assert torch.equal(linear.by_wx, linear.by_rh) == cell.adds_halves


def test_the_coefficients_of_lstm_pull_an_adjoint_back():
    cell, (wx, rh, state) = LSTM(), point(LSTM())
    dh, dc_next = torch.randn(2, N, H)
    m, d_i, d_f, d_g, d_o, f = cell.coefficients(wx, rh, state)
    dc = dc_next + m * dh
    wanted_wx, _, wanted_state = torch.func.vjp(cell.step, wx, rh, state)[1]((dh, dc_next))
    assert_close([torch.stack((d_i * dc, d_f * dc, d_g * dc, d_o * dh), 1), f * dc], [wanted_wx, wanted_state[1]])


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_each_gate_has_a_name_and_goes_through_its_function(cell):
    wx, rh, _ = point(cell)
    wx.requires_grad_()
    gates, values = cell.named_gates, cell.gate_values(wx, rh)
    assert len(gates) == len({gate.name for gate in gates}) == cell.gates
    assert len(values) in (0, cell.gates)
    for g, y in enumerate(values):
        function = gates[g].function
        if function is not None:  # y = φ(a), with ∂a/∂wx_g = 1
            (slope,) = torch.autograd.grad(y.sum(), wx, retain_graph=True)
            assert_close([slope[:, g]], [function.vjp(torch.full_like(y, torch.nan), y.detach(), torch.ones_like(y))])
        assert not gates[g].opens or isinstance(function, Sigmoid)


@pytest.mark.parametrize(("cell", "opening"), [(GRU(), "rz"), (LSTM(), "ifo")], ids=str)
def test_gates_that_open_are_those_of_the_equations(cell, opening):
    assert {gate.name for gate in cell.named_gates if gate.opens} == set(opening)
    wx, rh, state = point(cell)
    wx[:, cell.memory_gate] = 50.0  # σ(50 ± a few) is 1 to 1e-15: the last state stays as it is
    linear = derivative(cell, wx, rh, state)
    assert_close([linear.by_state[-1, -1]], [torch.ones(N, H)])


@pytest.mark.parametrize(("function", "at"), [(Tanh(), 1.0), (Sigmoid(), 0.25), (Relu(), 1.0)], ids=str)
def test_saturated_is_a_slope_below_a_twentieth_of_the_greatest(function, at):
    a = torch.linspace(-8, 8, 401, dtype=torch.float64)
    y = function(a)
    assert torch.equal(function.saturated(y), function.vjp(a, y, torch.ones_like(a)) < 0.05 * at)
