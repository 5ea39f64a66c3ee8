"""The layers of a stack take turns in time: the same bits on any number of threads, and those of the definition but for rounding."""

import pytest
import torch
from _rounding import assert_close, path, rounding

pytest.importorskip("throughtime._kernels", reason="the extension is not built here; the plain loop serves")

import throughtime as tt
from throughtime.kernels import set_kernels, set_threads

LAYERS = [tt.RNN, tt.GRU, tt.LSTM]
# T, B, I, H, layers. Four chunks and more, the last shorter; two layers that wait for each other, and more layers than threads.
QUICK = [(75, 3, 40, 50, 3)]
SLOW = [(130, 1, 70, 65, 2), (41, 8, 30, 33, 4), (90, 7, 24, 40, 5)]
SIZES = [*QUICK, *(pytest.param(sizes, marks=pytest.mark.slow) for sizes in SLOW)]
# What keeps its gates, and what computes them again a chunk at a time.
KEPT = [
    *((sizes, "fast") for sizes in QUICK),
    ((300, 3, 20, 30, 2), "lean"),
    *(pytest.param(sizes, "fast", marks=pytest.mark.slow) for sizes in SLOW),
]


@pytest.fixture(autouse=True)
def settings():
    yield
    set_threads(None)
    set_kernels("fast")


def gradients(layer: torch.nn.RNNBase, xs: torch.Tensor, adjoints: tuple[torch.Tensor, ...], threads: int) -> dict[str, torch.Tensor]:
    """Outputs, last states and every gradient."""
    set_threads(threads)
    layer.zero_grad()
    leaf = xs.clone().requires_grad_()
    output, last = layer(leaf)
    ends = (output, *last) if isinstance(last, tuple) else (output, last)
    torch.autograd.backward(ends, adjoints)
    named = {f"d {name}": p.grad.clone() for name, p in layer.named_parameters()}
    return named | {f"end {k}": end.detach() for k, end in enumerate(ends)} | {"dxs": leaf.grad}


def case(make, sizes, memory, dtype):
    T, B, I, H, L = sizes
    torch.manual_seed(0)
    layer = make(I, H, num_layers=L, memory=memory, dtype=dtype)
    states = 2 if make is tt.LSTM else 1
    xs = torch.randn(T, B, I, dtype=dtype)
    return layer, xs, (torch.randn(T, B, H, dtype=dtype), *(torch.randn(L, B, H, dtype=dtype) for _ in range(states)))


@pytest.mark.parametrize(("sizes", "memory"), KEPT, ids=str)
@pytest.mark.parametrize("make", LAYERS)
def test_any_number_of_threads_same_bits(make, sizes, memory):
    layer, xs, adjoints = case(make, sizes, memory, torch.float32)
    alone = gradients(layer, xs, adjoints, 1)
    for threads in (2, 3, 2, 2):
        for name, found in gradients(layer, xs, adjoints, threads).items():
            assert torch.equal(found, alone[name]), (name, threads)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("make", LAYERS)
def test_agrees_with_the_plain_loop(make, sizes):
    layer, xs, adjoints = case(make, sizes, "fast", torch.float64)
    found = gradients(layer, xs, adjoints, 2)
    set_kernels("plain")
    T, _, I, H, L = sizes
    assert_close(found, gradients(layer, xs, adjoints, 1), rounding(path(T, max(I, H), L)))


def test_nothing_is_kept_without_gradient():
    """Layers below the last share two arrays then, which are overwritten in turns."""
    layer, xs, adjoints = case(tt.LSTM, (75, 3, 40, 50, 5), "fast", torch.float32)
    wanted = gradients(layer, xs, adjoints, 1)
    set_threads(2)
    with torch.no_grad():
        output, (h, c) = layer(xs)
    assert all(torch.equal(got, wanted[f"end {k}"]) for k, got in enumerate((output, h, c)))


CELLS = [tt.cells.Elman(), tt.cells.GRU(), tt.cells.LSTM()]
# Vectors or rows of a table at the bottom; streams that start anew on the way; adjoints clipped inside of the recursion.
OPTIONS = [{}, {"rows": True, "fresh": True, "clip": 0.5}]


def traced(stack: tt.nn.Recurrence, xs, threads: int, *, fresh: bool = False, clip: float | None = None, **_) -> dict[str, torch.Tensor]:
    """As ``gradients``, by a trace: what every gradient method trains with."""
    set_threads(threads)
    stack.zero_grad()
    T, B, _ = xs.shape
    dtype = stack.weight_hh_l0.dtype
    generator = torch.Generator().manual_seed(1)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    state = tuple(normal(stack.num_layers, B, stack.hidden_size) for _ in range(stack.cell.states))
    starts = torch.rand(T, B, generator=generator) < 0.05 if fresh else None
    trace = stack.trace(xs, state, fresh=starts, clip_adjoint=clip)
    carried = trace.backward(normal(*trace.hs.shape), tuple(normal(*s.shape) for s in state))
    trace.finish()
    named = {f"d {name}": p.grad.clone() for name, p in stack.named_parameters()}
    states = {f"{name} {k}": s for name, parts in (("last", trace.last), ("d carried", carried)) for k, s in enumerate(parts)}
    return named | states | {"hs": trace.hs}


def traced_case(cell, sizes, dtype, *, rows: bool = False, memory="fast", **_):
    T, B, I, H, L = sizes
    torch.manual_seed(0)
    stack = tt.nn.Recurrence(cell, I, H, num_layers=L, memory=memory).to(dtype)
    index, table = torch.randint(9, (T, B)), torch.randn(9, I, dtype=dtype)
    return stack, tt.nn.Rows(table, index) if rows else table[index]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_trace_has_the_same_bits_on_any_number_of_threads(cell, options):
    stack, xs = traced_case(cell, QUICK[0], torch.float32, **options)
    alone = traced(stack, xs, 1, **options)
    for threads in (2, 3, 2):
        for name, found in traced(stack, xs, threads, **options).items():
            assert torch.equal(found, alone[name]), (name, threads)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_trace_agrees_with_the_plain_loop(cell, options):
    T, _, I, H, L = sizes = QUICK[0]
    stack, xs = traced_case(cell, sizes, torch.float64, **options)
    found = traced(stack, xs, 2, **options)
    set_kernels("plain")
    assert_close(found, traced(stack, xs, 1, **options), rounding(path(T, max(I, H), L)))


def test_a_trace_takes_turns(monkeypatch):
    """One call of the extension for all layers, unless dropout stands between them."""
    from throughtime import _kernels

    calls, forward_stack = [], _kernels.forward_stack
    monkeypatch.setattr(
        "throughtime.kernels._fast._kernels.forward_stack", lambda layers: calls.append(len(layers)) or forward_stack(layers)
    )
    stack = tt.nn.Recurrence(tt.cells.GRU(), 3, 5, num_layers=3, dropout=0.5)
    for training in (False, True):
        stack.train(training)
        stack.trace(torch.randn(4, 2, 3))
    assert calls == [3, 1, 1, 1]


def test_layers_that_are_not_connected_are_refused():
    from throughtime.kernels import _fast
    from throughtime.kernels._types import FORWARD, Parameters, Start

    weights = Parameters(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), None, None)
    cell, xs, start = tt.cells.Elman(), torch.zeros(5, 2, 4), Start((torch.zeros(2, 4),), weights, FORWARD)
    calls = [_fast.forward_call(cell, xs, start, "fast", 1)[0] for _ in range(2)]
    with pytest.raises(ValueError, match=r"a layer does not read the array that the layer before it writes; expected forward's hs"):
        _fast._kernels.forward_stack(tuple(calls))
    with pytest.raises(TypeError, match=r"layers is a list; expected a tuple of a tuple for each layer\."):
        _fast._kernels.forward_stack(calls)
    backward = Start(start.state, weights, tt.kernels.Traversal(reverse=True))
    first, run = _fast.forward_call(cell, xs, backward, "fast", 1)
    with pytest.raises(ValueError, match=r"lengths or reverse is given for one of several layers; expected neither\."):
        _fast._kernels.forward_stack((first, _fast.forward_call(cell, run.hs, backward, "fast", 1)[0]))
