"""Every cell: its hand-written recursion against autograd of the unrolled loop, in value and every gradient."""

from typing import Any

import pytest
import torch
from _tables import CELLS, KINDS, TORCH, first, name
from _truth import assert_close, gradients, unrolled
from hypothesis import given, strategies as st

from throughtime.cells import GRU, LSTM, AbstractCell, Elman
from throughtime.kernels import Parameters, Traversal, _plain, recurrence

SIZES = st.sampled_from([1, 2, 3, 7, 8, 9, 17])


def draw(cell: AbstractCell, T: int, B: int, I: int, H: int, *, bias: bool = True):
    """Inputs, state and parameters that want gradients, none of them square or zero where it need not be.

    R is scaled to a spectral radius of about 0.6, so that no step magnifies what rounding has left: the condition is 1 in every cell.
    """
    leaf = lambda *shape, scale=0.6: (torch.randn(*shape) * scale).requires_grad_()
    G = cell.gates
    biases = (leaf(G, H), leaf(G, H)) if bias else (None, None)
    weights = leaf(G, H, I), leaf(G, H, H, scale=0.6 * H**-0.5)
    return leaf(T, B, I), tuple(leaf(B, H) for _ in range(cell.states)), Parameters(*weights, *biases)


def leaves(xs, state, parameters) -> list[torch.Tensor]:
    return [xs, *state, *(p for p in parameters if p is not None)]


def compare(cell, xs, state, parameters, use_hs=True, use_last=True) -> None:
    hs, last = recurrence(cell, xs, state, parameters)
    hs_truth, last_truth = unrolled(cell, xs, state, parameters)
    assert_close([hs, *last], [hs_truth, *last_truth])
    weights = [torch.randn_like(y) for y in (hs, *last)]
    chosen = slice(0 if use_hs else 1, None if use_last else 1)
    got = gradients([hs, *last][chosen], weights[chosen], leaves(xs, state, parameters))
    wanted = gradients([hs_truth, *last_truth][chosen], weights[chosen], leaves(xs, state, parameters))
    assert_close(got, wanted)


@pytest.mark.parametrize("cell", first([*KINDS, Elman()], CELLS), ids=name)
@given(T=SIZES, B=SIZES, I=SIZES, H=SIZES, bias=st.booleans(), seed=st.integers(0, 2**31))
def test_agrees_with_autograd(cell, T, B, I, H, bias, seed):
    torch.manual_seed(seed)
    compare(cell, *draw(cell, T, B, I, H, bias=bias))


@pytest.mark.parametrize(("use_hs", "use_last"), [(True, False), (False, True)])
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_gradient_may_arrive_at_the_outputs_alone_or_the_last_state_alone(cell, use_hs, use_last):
    compare(cell, *draw(cell, 6, 3, 4, 5), use_hs=use_hs, use_last=use_last)


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_odd_strides(cell):
    _xs, state, parameters = draw(cell, 5, 3, 4, 6)
    strided = torch.randn(4, 10, 3).transpose(0, 1)[::2].transpose(1, 2).requires_grad_()  # (5, 3, 4), no contiguous axis
    assert not strided.is_contiguous()
    compare(cell, strided, state, parameters)


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_gradcheck(cell):
    xs, state, parameters = draw(cell, 4, 2, 3, 3)
    run = lambda xs, W, R, b_ih, b_hh, *state: recurrence(cell, xs, state, Parameters(W, R, b_ih, b_hh))[0]
    assert torch.autograd.gradcheck(run, (xs, *parameters, *state))


@pytest.mark.parametrize("cell", [c for c in CELLS if type(c).step_vjp is not AbstractCell.step_vjp], ids=name)
def test_step_differentiated_by_hand_agrees_with_torch_func(cell):
    B, H = 3, 5
    draw_gate = lambda: torch.randn(B, cell.gates, H)
    wx, rh, state, dstate = draw_gate(), draw_gate(), *(tuple(torch.randn(B, H) for _ in range(cell.states)) for _ in "sd")
    dwx, drh, dprev = cell.step_vjp(wx, rh, state, cell.step(wx, rh, state), dstate)
    dwx_truth, drh_truth, dprev_truth = AbstractCell.step_vjp(cell, wx, rh, state, cell.step(wx, rh, state), dstate)
    assert_close([dwx, drh, *dprev], [dwx_truth, drh_truth, *dprev_truth])


@pytest.mark.parametrize("cell", TORCH, ids=str)
def test_agrees_with_torch_nn(cell):
    T, B, I, H, G = 9, 4, 3, 7, cell.gates
    peer = TORCH[cell](I, H)
    xs, state, _ = draw(cell, T, B, I, H)
    parameters = Parameters(*(p.view(G, H, *p.shape[1:]) for p in peer.parameters()))
    hx = tuple(s.unsqueeze(0) for s in state)
    out, last = peer(xs, hx if len(hx) > 1 else hx[0])
    last = [s[0] for s in last] if isinstance(last, tuple) else [last[0]]
    hs, mine = recurrence(cell, xs, state, parameters)
    assert_close([hs, *mine], [out, *last])
    weights = [torch.randn_like(y) for y in (hs, *mine)]
    inputs = [xs, *state, *peer.parameters()]
    assert_close(gradients([hs, *mine], weights, inputs), gradients([out, *last], weights, inputs))


WALKS: dict[str, Any] = {
    "lengths": {"lengths": torch.tensor([5, 1, 7, 3])},
    "reset": {"reset": torch.rand(7, 4, generator=torch.Generator().manual_seed(3)) < 0.3},
    "reverse": {"reverse": True},
    "reverse, lengths": {"reverse": True, "lengths": torch.tensor([7, 2, 4, 1])},
    "all": {
        "reverse": True,
        "lengths": torch.tensor([7, 2, 4, 1]),
        "reset": torch.rand(7, 4, generator=torch.Generator().manual_seed(4)) < 0.3,
    },
}


@pytest.mark.parametrize("restart", [False, True], ids=["zeros", "restart"])
@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_walks(cell, walk, restart):
    """Lengths, resets and the other direction, against one sequence at a time."""
    xs, state, parameters = draw(cell, 7, 4, 3, 5)
    new = tuple(torch.randn(4, 5, requires_grad=True) for _ in state) if restart else None
    chosen = Traversal(**WALKS[walk], restart=new)
    with torch.no_grad():
        run = _plain.forward(cell, xs, state, parameters, chosen)
    hs, last = unrolled(cell, xs, state, parameters, chosen)
    assert_close([run.hs, *run.last], [hs, *last])
    weights = [torch.randn_like(y) for y in (hs, *last)]
    with torch.no_grad():
        d = _plain.backward(cell, xs, parameters, run, weights[0], tuple(weights[1:]), chosen)
    wanted = gradients([hs, *last], weights, [xs, *state, *parameters, *(new or ())])
    assert_close([d.dxs, *d.dstate, *d.parameters, *(d.drestart or ())], wanted)


@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_clipping_at_each_time_step_is_inside_the_recursion(cell):
    """λ_t ← λ_t · min(1, r/‖λ_t‖) before both its uses, step by step with torch.func, all states together."""
    T, B, H, limit = 6, 3, 5, 2.0
    xs, state, parameters = draw(cell, T, B, 4, H)
    with torch.no_grad():
        run = _plain.forward(cell, xs, state, parameters)
    weights = torch.randn(T, B, H)

    def one(x, s, parameters):
        return unrolled(cell, x.unsqueeze(0), s, parameters)[1]

    states = [state]
    for t in range(T):
        states.append(one(xs[t], states[-1], parameters))
    adjoint = tuple(torch.zeros(B, H) for _ in state)
    totals = [torch.zeros_like(p) for p in parameters]
    dxs, clipped = [], 0
    for t in reversed(range(T)):
        adjoint = (adjoint[0] + weights[t], *adjoint[1:])
        norm = torch.stack([a.square().sum(1) for a in adjoint]).sum(0).sqrt()
        clipped += int((norm > limit).sum())
        adjoint = tuple(a * (limit / norm).clamp(max=1).unsqueeze(1) for a in adjoint)
        _, pull = torch.func.vjp(one, xs[t], states[t], parameters)
        dx, adjoint, dp = pull(adjoint)
        dxs.insert(0, dx)
        totals = [a + b for a, b in zip(totals, dp, strict=True)]
    assert 0 < clipped < T * B, "the test wants some clipped and some not"
    with torch.no_grad():
        d = _plain.backward(cell, xs, parameters, run, weights, None, clip=limit)
    assert_close([d.dxs, *d.dstate, *d.parameters], [torch.stack(dxs), *adjoint, *totals])


def test_the_checker_sees_a_gradient_wrong_by_a_thousandth():
    g = torch.randn(5, 7)
    wrong = g.clone()
    wrong[2, 3] = g.abs().max() * 1.001
    g[2, 3] = g.abs().max()
    with pytest.raises(AssertionError):
        assert_close([wrong], [g])


@pytest.mark.parametrize("cell", first([KINDS[0], LSTM()], CELLS), ids=name)
def test_the_gradient_has_a_gradient(cell):
    xs, state, parameters = draw(cell, 3, 2, 2, 3)

    def run(xs, *rest):
        hs, last = recurrence(cell, xs, rest[: cell.states], Parameters(*rest[cell.states :]))
        return hs, *last

    assert torch.autograd.gradgradcheck(run, (xs, *state, *parameters))


def test_a_clipped_adjoint_has_none():
    xs, state, parameters = draw(GRU(), 3, 2, 3, 4)
    hs, _ = recurrence(GRU(), xs, state, parameters, clip_adjoint=1.0)
    with pytest.raises(NotImplementedError, match=r"clip_adjoint is 1\.0: .* has no derivative"):
        torch.autograd.grad(hs.square().sum(), xs, create_graph=True)
