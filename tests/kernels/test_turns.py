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
