"""The kernels against the plain loop, in value and gradient: every cell, architecture, element type and walk."""

import itertools

import pytest
import torch
from _problems import arrays, assert_close, by_kernels, by_plain, problem, rounding
from hypothesis import given, settings, strategies as st

from throughtime import _kernels
from throughtime.cells import GRU, LSTM, Elman, Identity, Relu, Sigmoid, Tanh
from throughtime.kernels import _fast

CELLS = [Elman(Tanh()), Elman(Relu()), Elman(Identity()), Elman(Sigmoid()), GRU(), LSTM()]
ARCHITECTURES = _kernels.architectures()

WALKS = [
    {},
    {"bias": False},
    {"arrives": "outputs"},
    {"arrives": "last"},
    {"reverse": True},
    {"clip": 0.5},
    {"lengths": True},
    {"lengths": True, "ordered": True},
    {"lengths": True, "reverse": True, "clip": 0.3},
    {"reset": True},
    {"reset": True, "restart": False, "reverse": True},
    {"reset": True, "lengths": True, "clip": 0.5},
    {"reset": True, "lengths": True, "reverse": True},
]


def walk_id(walk: dict) -> str:
    return "-".join(f"{k}={v}" for k, v in walk.items()) or "plain"


# The cells that differ in their activation alone walk the same loops: bare, and with everything at once.
WALKED = [(c, w) for c in CELLS for w in (WALKS if c in (CELLS[0], *CELLS[4:]) else (WALKS[0], WALKS[-2]))]


@pytest.mark.parametrize(("cell", "walk"), WALKED, ids=lambda v: walk_id(v) if isinstance(v, dict) else str(v))
def test_float64_is_the_plain_loop(cell, walk):
    for sizes in [(6, 3, 5, 7), (9, 9, 17, 19)]:
        p = problem(cell, sizes, **walk)
        truth = arrays(*by_plain(p))
        for keep, arch in itertools.product(("fast", "lean"), ARCHITECTURES):
            assert_close(arrays(*by_kernels(p, keep=keep, arch=arch)), truth, rounding(sizes))


SIZES = [1, 2, 3, 5, 7, 8, 9, 16, 17, 31, 33, 50]
size, units = st.sampled_from(SIZES), st.sampled_from(SIZES[1:])  # one unit alone may cancel to nothing: see below for it


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    cell=st.sampled_from(CELLS),
    arch=st.sampled_from(ARCHITECTURES),
    keep=st.sampled_from(["fast", "lean"]),
    sizes=st.tuples(size, size, size, units),
    walk=st.fixed_dictionaries(
        {
            "bias": st.booleans(),
            "lengths": st.booleans(),
            "ordered": st.booleans(),
            "reset": st.booleans(),
            "restart": st.booleans(),
            "reverse": st.booleans(),
            "clip": st.sampled_from([None, 0.1, 2.0]),
            "arrives": st.sampled_from(["outputs", "last", "both"]),
            "seed": st.integers(0, 1000),
        }
    ),
)
def test_any_sizes_and_masks(cell, arch, keep, sizes, walk):
    p = problem(cell, sizes, **walk)
    assert_close(arrays(*by_kernels(p, keep=keep, arch=arch)), arrays(*by_plain(p)), rounding(sizes))


# Each large enough for a second thread: that shares the units (B < 8) or the batch; the last is longer than a chunk.
@pytest.mark.parametrize("walk", [{}, {"lengths": True, "reset": True, "clip": 0.5}, {"lengths": True, "reverse": True}], ids=walk_id)
@pytest.mark.parametrize("sizes", [(12, 1, 64, 160), (5, 5, 20, 190), (8, 33, 40, 70), (60, 9, 16, 33)], ids=str)
@pytest.mark.parametrize("cell", [Elman(Tanh()), GRU(), LSTM()], ids=str)
def test_threads_share_the_batch_or_the_units(cell, sizes, walk):
    p = problem(cell, sizes, **walk)
    truth = arrays(*by_plain(p))
    for keep, threads in itertools.product(("fast", "lean"), (1, 2, 3)):
        assert_close(arrays(*by_kernels(p, keep=keep, threads=threads)), truth, rounding(sizes))


@pytest.mark.parametrize("sizes", [(100, 1, 32, 32), (50, 4, 17, 31), (20, 40, 33, 48), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_float32_is_within_rounding_of_float64(cell, sizes):
    p = problem(cell, sizes, lengths=True, reset=True)
    truth = arrays(*by_plain(p))
    for arch in ARCHITECTURES:
        assert_close(arrays(*by_kernels(p.to(torch.float32), arch=arch)), truth, rounding(sizes, torch.float32))


@pytest.mark.parametrize(("cell", "module"), [(Elman(Tanh()), torch.nn.RNN), (GRU(), torch.nn.GRU), (LSTM(), torch.nn.LSTM)], ids=str)
def test_torch_nn_by_autograd(cell, module):
    """A second witness, that shares no code with the first."""
    p = problem(cell, (7, 4, 5, 9))
    layer = module(5, 9).double()
    with torch.no_grad():
        for mine, theirs in zip(p.parameters, layer.parameters(), strict=True):
            theirs.copy_(mine.view_as(theirs))
    xs = p.xs.clone().requires_grad_()
    state = tuple(s[None].clone().requires_grad_() for s in p.state)
    hs, last = layer(xs, state if len(state) > 1 else state[0])
    last = last if isinstance(last, tuple) else (last,)
    torch.autograd.backward((hs, *last), (p.dhs, *(d[None] for d in p.dlast)))
    run, d = by_kernels(p)
    truth = {"hs": hs, "dxs": xs.grad} | {f"last[{k}]": s[0] for k, s in enumerate(last)}
    truth |= {f"dstate[{k}]": s.grad[0] for k, s in enumerate(state)}
    truth |= {f"d{n}": q.grad.view(cell.gates, 9, *q.shape[1:]) for n, q in zip(p.parameters._fields, layer.parameters(), strict=True)}
    assert_close(arrays(run, d), {k: v.detach() for k, v in truth.items()}, rounding((7, 4, 5, 9)))


@pytest.mark.parametrize("cell", [Elman(Tanh()), GRU(), LSTM()], ids=str)
def test_a_checker_that_can_fail(cell):
    """A gradient wrong by 0.1 % is seen."""
    p = problem(cell, (5, 3, 4, 6))
    truth = arrays(*by_plain(p))
    wrong = {name: a * 1.001 if name == "dR" else a for name, a in truth.items()}
    with pytest.raises(AssertionError, match="dR"):
        assert_close(wrong, truth, rounding((5, 3, 4, 6)))


@pytest.mark.parametrize("cell", [Elman(Tanh()), GRU(), LSTM()], ids=str)
def test_strides_at_the_border(cell):
    p = problem(cell, (6, 4, 5, 7))
    truth = arrays(*by_plain(p))
    turned = p.__class__(
        cell,
        p.xs.transpose(0, 1).contiguous().transpose(0, 1),
        tuple(s.T.contiguous().T for s in p.state),
        p.parameters._replace(R=p.parameters.R.transpose(1, 2).contiguous().transpose(1, 2)),
        p.traversal,
        p.dhs[:1].expand_as(p.dhs),
        p.dlast,
    )
    truth = arrays(*by_plain(turned))
    assert_close(arrays(*by_kernels(turned)), truth, rounding((6, 4, 5, 7)))


def test_what_else_is_in_the_batch_does_not_matter():
    p = problem(GRU(), (12, 8, 6, 20))
    run, _ = by_kernels(p)
    for b in range(8):
        alone, _ = by_kernels(
            p.__class__(p.cell, p.xs[:, b : b + 1], tuple(s[b : b + 1] for s in p.state), p.parameters, p.traversal, None, None)
        )
        torch.testing.assert_close(alone.hs[:, 0], run.hs[:, b], rtol=0, atol=rounding((12, 1, 6, 20)))  # |h| ≤ 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("keep", ["fast", "lean"])
@pytest.mark.parametrize("cell", [Elman(Tanh()), GRU(), LSTM()], ids=str)
def test_scratch_does_not_grow_with_time(cell, keep, threads):
    """Of either direction: what the extension takes for 10,000 steps is what it takes for 1,000. What lean leaves is small."""
    kind = _fast.number_of(cell)
    sizes = [_kernels.scratch_size(kind, (T, 16, 64, 128), keep, False, threads) for T in (1_000, 10_000)]
    assert sizes[0] == sizes[1]
    assert min(sizes[0]) > 4 * cell.gates * 128 * (64 + 128)  # bytes of the packed weights alone
    assert _kernels.residuals_size(kind, (10_000, 16, 128), "lean", False) <= 0.15 * 10_000 * 16 * 128
