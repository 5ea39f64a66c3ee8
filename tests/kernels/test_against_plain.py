"""The kernels against the plain loop, in value and gradient: every cell, architecture, element type and walk."""

import pytest
import torch
from _problems import arrays, assert_close, by_kernels, by_plain, problem
from hypothesis import given, settings, strategies as st

from throughtime import _kernels
from throughtime.cells import GRU, LSTM, Elman, Identity, Relu, Sigmoid, Tanh

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

exact = 1e-12  # relative, in float64: rounding of at most some hundred terms, with room


def walk_id(walk: dict) -> str:
    return "-".join(f"{k}={v}" for k, v in walk.items()) or "plain"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("walk", WALKS, ids=walk_id)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_float64_is_the_plain_loop(cell, walk, arch):
    for sizes in [(6, 3, 5, 7), (9, 9, 17, 19)]:
        p = problem(cell, sizes, **walk)
        truth = arrays(*by_plain(p))
        for keep in ("fast", "lean"):
            assert_close(arrays(*by_kernels(p, keep=keep, arch=arch)), truth, exact)


size = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 16, 17, 31, 33, 50])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    cell=st.sampled_from(CELLS),
    arch=st.sampled_from(ARCHITECTURES),
    keep=st.sampled_from(["fast", "lean"]),
    sizes=st.tuples(size, size, size, size),
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
    assert_close(arrays(*by_kernels(p, keep=keep, arch=arch)), arrays(*by_plain(p)), exact)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("walk", [{}, {"lengths": True, "reset": True, "clip": 0.5}, {"lengths": True, "reverse": True}], ids=walk_id)
@pytest.mark.parametrize("sizes", [(40, 1, 64, 160), (30, 5, 20, 190), (20, 33, 40, 70), (300, 9, 16, 33)], ids=str)
@pytest.mark.parametrize("cell", [Elman(Tanh()), GRU(), LSTM()], ids=str)
def test_threads_share_the_batch_or_the_units(cell, sizes, walk, threads):
    p = problem(cell, sizes, **walk)
    truth = arrays(*by_plain(p))
    for keep in ("fast", "lean"):
        assert_close(arrays(*by_kernels(p, keep=keep, threads=threads)), truth, exact)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("sizes", [(100, 1, 32, 32), (50, 4, 17, 31), (20, 40, 33, 48), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_float32_is_within_rounding_of_float64(cell, sizes, arch):
    p = problem(cell, sizes, lengths=True, reset=True)
    T, _, I, H = sizes
    # Rounding grows at most like the terms of the sums that a gradient has been through: c·eps·T, with a c that also
    # covers the sums over I + H inside one step.
    tolerance = torch.finfo(torch.float32).eps * T * (4 + (I + H) / 16)
    assert_close(arrays(*by_kernels(p.to(torch.float32), arch=arch)), arrays(*by_plain(p)), tolerance)


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
    assert_close(arrays(run, d), {k: v.detach() for k, v in truth.items()}, exact)


@pytest.mark.parametrize("cell", [Elman(Tanh()), GRU(), LSTM()], ids=str)
def test_a_checker_that_can_fail(cell):
    """A gradient wrong by 0.1 % is seen."""
    p = problem(cell, (5, 3, 4, 6))
    truth = arrays(*by_plain(p))
    wrong = {name: a * 1.001 if name == "dR" else a for name, a in truth.items()}
    with pytest.raises(AssertionError, match="dR"):
        assert_close(wrong, truth, exact)


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
    assert_close(arrays(*by_kernels(turned)), truth, exact)


def test_what_else_is_in_the_batch_does_not_matter():
    p = problem(GRU(), (12, 8, 6, 20))
    run, _ = by_kernels(p)
    for b in range(8):
        alone, _ = by_kernels(
            p.__class__(p.cell, p.xs[:, b : b + 1], tuple(s[b : b + 1] for s in p.state), p.parameters, p.traversal, None, None)
        )
        torch.testing.assert_close(alone.hs[:, 0], run.hs[:, b], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("keep", ["fast", "lean"])
def test_backward_scratch_does_not_grow_with_time(keep):
    """What lean keeps beside hs is a small part of it, whatever T."""
    T, B, H = 10_000, 16, 128
    gates = _kernels.kept_size(_kernels.LSTM, T, B, H, keep, False)
    assert gates <= (5 if keep == "fast" else 0.15) * T * B * H
