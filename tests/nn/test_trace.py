"""A trace's adjoints, tangents and Jacobians against autograd of the network written out step by step."""

import pytest
import torch
from _tables import CELLS, name
from _truth import assert_close
from hypothesis import given, strategies as st

from throughtime import cells, kernels
from throughtime.nn import Learnable, Recurrence, Rows
from throughtime.nn._trace import add_to_grads

T, B, I, H, L = 6, 3, 2, 5, 2


def stack(cell, layers=L, **options) -> Recurrence:
    made = Recurrence(cell, I, H, num_layers=layers, initial=Learnable(), **options)
    with torch.no_grad():
        made.initial.normal_()
    return made


def random_state(recurrence: Recurrence, batch=B):
    return tuple(torch.randn(recurrence.num_layers, batch, H) for _ in range(recurrence.cell.states))


def written_out(recurrence, xs, state, fresh):
    """Every step's state of every layer, by the cell's forward equations alone: T of (S, L, B, H), with a graph."""
    initial = recurrence.initial_state(xs.shape[1])
    state = initial if state is None else state
    found = []
    for t in range(len(xs)):
        cut = fresh[t].view(1, -1, 1)
        state = tuple(torch.where(cut, new, old) for new, old in zip(initial, state, strict=True))
        below, after = xs[t], []
        for l in range(recurrence.num_layers):
            p = recurrence.parameters_of(l)
            wx = torch.einsum("bi,ghi->bgh", below, p.W) + (0 if p.b_ih is None else p.b_ih)
            rh = torch.einsum("bi,ghi->bgh", state[0][l], p.R) + (0 if p.b_hh is None else p.b_hh)
            after.append(recurrence.cell.step(wx, rh, tuple(s[l] for s in state)))
            below = after[-1][0]
        state = tuple(torch.stack(parts) for parts in zip(*after, strict=True))
        found.append(state)
    return found


def freshness(rows, T=T, B=B):
    fresh = torch.zeros(T, B, dtype=torch.bool)
    for t in rows:
        fresh[t] = torch.rand(B) < 0.6
    return fresh


def grads(recurrence):
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in recurrence.parameters()]


@pytest.mark.parametrize("rows", [(), (0,), (0, 2, 5)], ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_the_whole_recursion(cell, rows):
    recurrence, fresh = stack(cell), freshness(rows)
    xs, state = torch.randn(T, B, I, requires_grad=True), tuple(s.requires_grad_() for s in random_state(stack(cell)))
    dhs, dlast = torch.randn(T, B, H), tuple(torch.randn_like(s) for s in state)
    steps = written_out(recurrence, xs, state, fresh)
    outputs = [torch.stack([s[0][-1] for s in steps]), *steps[-1]]
    wanted = torch.autograd.grad(outputs, [xs, *state, *recurrence.parameters()], [dhs, *dlast], materialize_grads=True)
    trace = recurrence.trace(xs, state, fresh=fresh)
    assert_close([trace.hs, *trace.last], [y.detach() for y in outputs])
    dstate = trace.backward(dhs, dlast)
    trace.finish()
    assert_close([xs.grad, *dstate, *grads(recurrence)], wanted)


@pytest.mark.parametrize("rows", [(), (0, 3)], ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_one_step_back_from_every_step_at_once(cell, rows):
    """λ_t J_t of all t, each from an adjoint of its own, is autograd's through that one step; so is what goes into the input."""
    recurrence, fresh, xs = stack(cell), freshness(rows), torch.randn(T, B, I)
    state = random_state(recurrence)
    trace = recurrence.trace(xs, state, fresh=fresh)
    adjoint = [tuple(torch.randn(T * B, H) for _ in range(cell.states)) for _ in range(L)]
    given_adjoint = [tuple(s.clone() for s in layer) for layer in adjoint]
    into, dxs = trace.zeros(T), torch.empty(T * B, I)
    trace.pull(0, T, adjoint, into, dxs=dxs)
    for t in range(T):
        before = tuple(s.detach().requires_grad_() for s in trace.state_after(t))
        before = state if t == 0 else before
        before = tuple(s.requires_grad_() for s in before)
        x = xs[t : t + 1].clone().requires_grad_()
        after = written_out(recurrence, x, before, fresh[t : t + 1])[0]
        arrived = [torch.stack([given_adjoint[l][k][t * B : (t + 1) * B] for l in range(L)]) for k in range(cell.states)]
        *wanted, dx = torch.autograd.grad(after, [*before, x], arrived, materialize_grads=True)
        got = [torch.stack([into[l][k][t * B : (t + 1) * B] for l in range(L)]) for k in range(cell.states)]
        assert_close([*got, dxs[t * B : (t + 1) * B]], [*wanted, dx[0]])


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_lags_add_up_to_the_gradient(cell):
    """(6) of the sum of all pulls is what the recursion over all steps adds, to the input and the initial state too."""
    recurrence, fresh = stack(cell), freshness((0, 3))
    xs, state, c = torch.randn(T, B, I, requires_grad=True), random_state(recurrence), torch.randn(T, B, H)
    trace = recurrence.trace(xs, state, fresh=fresh)
    trace.backward(c, None)
    trace.finish()
    wanted, xs.grad = [xs.grad, *grads(recurrence)], None
    recurrence.zero_grad()
    total, v, before = trace.zeros(T), trace.zeros(T), trace.zeros(T)
    v[-1][0].copy_(c.flatten(0, 1))
    for _ in range(T):
        trace.pull(0, T, v, before)
        for sums, parts, earlier in zip(total, v, before, strict=True):
            for s, p, e in zip(sums, parts, earlier, strict=True):
                s += p
                p[:-B], p[-B:] = e[B:].clone(), 0
    trace.add_gradients(total)
    assert_close([xs.grad, *grads(recurrence)], wanted)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_jacobians_tangents_and_adjoints_of_a_step(cell, bias):
    recurrence, fresh = stack(cell, bias=bias), freshness((0, 4))
    xs, state = torch.randn(T, B, I), random_state(recurrence)
    trace, t = recurrence.trace(xs, state, fresh=fresh), 4
    S = cell.states
    before = torch.stack([torch.stack(layer.before).select(1, t) for layer in trace.layers])  # (L, S, B, H)
    went_in = [xs[t], trace.layers[0].run.hs[t]]
    for l, layer in enumerate(trace.layers):
        W, R, b_ih, b_hh = recurrence.parameters_of(l)

        def step(s, x, W=W, R=R, b_ih=b_ih, b_hh=b_hh):  # one stream: s (S, H), x (I,)
            wx, rh = W @ x + (0 if b_ih is None else b_ih), R @ s[0] + (0 if b_hh is None else b_hh)
            return torch.stack([y[0] for y in cell.step(wx[None], rh[None], tuple(s[:, None]))])

        at = layer.at(t)
        for b in range(B):
            by_state, by_input = torch.autograd.functional.jacobian(step, (before[l, :, b], went_in[l][b]))
            assert_close([at.jacobian()[b], at.input_jacobian()[b]], [by_state.reshape(S * H, S * H), by_input.reshape(S * H, -1)])
    everywhere = [torch.randn(S, 7, B, H) for _ in range(2 * L)]  # K = 7 at once
    tangents, adjoints = everywhere[:L], everywhere[L:]
    linear = trace.at(t)
    pushed, pulled = linear.push(tangents), linear.pull(adjoints)
    forward = sum((a * v).sum((0, 3)) for a, v in zip(pushed, adjoints, strict=True))
    back = sum((q * p.before).sum((0, 3)) for q, p in zip(tangents, pulled, strict=True))
    assert_close([forward], [back])  # ⟨J q, v⟩ = ⟨q, Jᵀ v⟩
    points = trace.at_points(torch.full((B,), t), torch.arange(B))
    assert_close(points.push([x.double() for x in tangents]), [x.double() for x in pushed])


def test_dropout_between_layers_is_part_of_the_step():
    recurrence = stack(cells.LSTM(), dropout=0.5).train()
    xs, c = torch.randn(T, B, I), torch.randn(T, B, H)
    torch.manual_seed(1)
    hs, _ = recurrence(xs, random_state(recurrence))
    torch.manual_seed(1)
    random_state(recurrence)
    torch.manual_seed(1)
    trace = recurrence.trace(xs, random_state(recurrence))
    assert_close([trace.hs], [hs.detach()])
    wanted = torch.autograd.grad(hs, [p for n, p in recurrence.named_parameters() if n != "initial"], c)
    trace.backward(c, None)
    assert_close([p.grad for n, p in recurrence.named_parameters() if n != "initial"], wanted)
    adjoint = trace.layers[1].at(2).pull(torch.randn(2, B, H)).below
    assert ((adjoint == 0) == (trace.layers[1].mask[2] == 0)).all()


@given(layers=st.integers(1, 3), B=st.integers(1, 4), T=st.integers(1, 9), fresh=st.sets(st.integers(0, 8)))
def test_rows_of_a_table_enter_as_the_vectors_do(layers, B, T, fresh):
    recurrence, table = stack(cells.GRU(), layers), torch.randn(4, I, requires_grad=True)
    index, marks, c = torch.randint(4, (T, B)), freshness([t for t in fresh if t < T], T, B), torch.randn(T, B, H)
    found = []
    for enter in (lambda: Rows(table, index), lambda: table[index]):
        for way in ("recursion", "pull"):
            xs = enter()
            recurrence.zero_grad()
            table.grad = None
            trace = recurrence.trace(xs, None, fresh=marks)
            if way == "recursion":
                trace.backward(c, None)
                trace.finish()
            else:
                total = trace.zeros(T)
                total[-1][0].copy_(c.flatten(0, 1))
                spread(trace, total)
                trace.add_gradients(total)
            found.append([table.grad, *grads(recurrence)])
    for other in found[1:]:
        assert_close(other, found[0])


def spread(trace, total):
    """From the losses' own adjoints to the sum of all that pass through each step, one step after another."""
    before = trace.zeros(1)
    for t in reversed(range(trace.T)):
        rows = slice(t * trace.B, (t + 1) * trace.B)
        here = [tuple(s[rows] for s in layer) for layer in total]
        trace.pull(t, t + 1, here, before)
        if t > 0:
            for layer, arrived in zip(total, before, strict=True):
                for s, d in zip(layer, arrived, strict=True):
                    s[rows.start - trace.B : rows.start] += d


@pytest.mark.parametrize("cell", [cells.Elman(), cells.GRU(), cells.LSTM()], ids=str)
def test_plain_and_packed_kernels_leave_the_same_steps(cell):
    recurrence, fresh, xs = stack(cell), freshness((0, 2, 3)), torch.randn(T, B, I)
    state = random_state(recurrence)
    fast = recurrence.trace(xs, state, fresh=fresh)
    lean = recurrence.trace(xs, state, fresh=fresh, keep="lean")
    kernels.set_kernels("plain")
    try:
        plain = recurrence.trace(xs, state, fresh=fresh)
    finally:
        kernels.set_kernels("fast")
    for one in (fast, lean):
        for a, b in zip(one.layers, plain.layers, strict=True):
            assert_close([*a.states, *a.before, a.wx, a.rh], [*b.states, *b.before, b.wx, b.rh])


@pytest.mark.parametrize("cell", [cells.Elman(), cells.GRU(), cells.LSTM()], ids=str)
def test_torchs_own_kernels_serve_as_on_another_device(cell, monkeypatch):
    """They keep a graph from x on, and no steps: what needs wx or the states must find its own."""
    recurrence, xs, dhs = stack(cell), torch.randn(T, B, I), torch.randn(T, B, H)
    state = random_state(recurrence)

    def everything():
        recurrence.zero_grad()
        trace = recurrence.trace(xs, state)
        start = trace.backward(dhs, None)
        adjoint = [tuple(torch.ones_like(s).flatten(0, 1) for s in layer.before) for layer in trace.layers]
        trace.pull(0, T, adjoint, into := trace.zeros(T))
        return [trace.hs, *trace.last, *start, *grads(recurrence), *trace.input_half_adjoints(dhs), *(s for layer in into for s in layer)]

    wanted = everything()
    native = lambda cell, xs, parameters, *_: "native" if isinstance(parameters, kernels.Parameters) else "plain"
    monkeypatch.setattr(kernels._dispatch, "kernels_for", native)
    assert_close(everything(), wanted)


def test_adjoints_are_clipped_where_they_pass():
    recurrence = stack(cells.LSTM(), 1)
    trace = recurrence.trace(torch.randn(T, B, I), clip_adjoint=0.5)
    adjoint = [tuple(10 * torch.randn(T * B, H) for _ in range(2))]
    trace.pull(0, T, adjoint, trace.zeros(T))
    norms = sum(s.square().sum(1) for s in adjoint[0]).sqrt()
    assert_close([norms], [torch.full_like(norms, 0.5)])


def test_gradients_reach_hooks_and_leave_the_frozen_alone():
    weight, frozen = torch.zeros(2, requires_grad=True), torch.zeros(2)
    calls = []
    weight.register_post_accumulate_grad_hook(lambda p: calls.append(p.grad.clone()))
    add_to_grads([weight, frozen, None], [torch.ones(2), torch.ones(2), None])
    assert torch.equal(calls[0], torch.ones(2))
    assert frozen.grad is None
