"""The operators of torch's library, and the recurrence under every transform of torch."""

import functools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from _problems import problem
from _tables import CELLS, first, name
from _truth import assert_close, unrolled

from throughtime.cells import GRU, LSTM, Elman, Identity, Relu, Sigmoid
from throughtime.kernels import Parameters, Traversal, recurrence
from throughtime.kernels._table import known

PACKED = [Elman(), Elman(Relu()), Elman(Identity()), Elman(Sigmoid()), GRU(), LSTM()]
SIZES = (5, 3, 2, 4)
TINY = (3, 2, 2, 2)
forward, backward = torch.ops.throughtime.recurrence, torch.ops.throughtime.recurrence_backward


def arguments(cell, sizes=SIZES, *, bias=True, walked=True, keep="fast", clip=None, dtype=torch.float64):
    """What the first operator is called with; everything that may need a gradient does."""
    p = problem(cell, sizes, bias=bias, lengths=walked, reset=walked, reverse=walked).to(dtype)
    asking = lambda x: None if x is None else x.requires_grad_()
    key = known(cell).name
    restart = [asking(s) for s in p.traversal.restart or ()]
    rest = (p.traversal.lengths, p.traversal.reset, restart, p.traversal.reverse, clip, keep)
    return (key, asking(p.xs), [asking(s) for s in p.state], *map(asking, p.parameters), *rest)


OPCHECKED = [
    (GRU(), {}),
    (GRU(), {"keep": "lean", "dtype": torch.float32}),
    (LSTM(), {"bias": False}),
    (Elman(), {"walked": False}),
]


def opcheck(cell, options, **tests):
    """Both operators, by torch's own checks of what an operator owes."""
    given = arguments(cell, **options)
    torch.library.opcheck(forward.default, given, **tests)
    with torch.no_grad():
        hs, *last, kept = forward(*given)
    arriving = (torch.randn_like(hs), [torch.randn_like(s) for s in last], True)
    torch.library.opcheck(backward.default, (*given, hs, kept, *arriving), **tests)


@pytest.mark.parametrize(("cell", "options"), OPCHECKED, ids=str)
def test_opcheck_of_schema_derivative_and_shapes(cell, options):
    opcheck(cell, options, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))


@pytest.mark.slow  # compiles both operators
@pytest.mark.parametrize(("cell", "options"), OPCHECKED, ids=str)
def test_opcheck(cell, options):
    opcheck(cell, options)


def called(cell, walk: Traversal, count: int, *tensors):
    """hs and the last state as a function of everything: xs, W, R, b_ih, b_hh, the state, the restart."""
    xs, *weights = tensors[:5]
    restart = tensors[5 + count :]
    walk = Traversal(walk.lengths, walk.reset, restart or None, walk.reverse)
    hs, last = recurrence(cell, xs, tensors[5 : 5 + count], Parameters(*weights), traversal=walk)
    return hs, *last


def function(cell, **options):
    """The recurrence as a function of its tensors, and a point."""
    p = problem(cell, SIZES, **options)
    tensors = (p.xs, *p.parameters, *p.state, *(p.traversal.restart or ()))
    return functools.partial(called, cell, p.traversal, cell.states), tensors, p.traversal


@pytest.mark.parametrize("options", [{}, {"lengths": True, "reset": True}, {"lengths": True, "reset": True, "reverse": True}], ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_forward_mode(cell, options):
    run, tensors, walk = function(cell, **options)
    tangents = tuple(torch.randn_like(x) for x in tensors)

    def truth(*tensors):
        restart = tensors[5 + cell.states :] or None
        hs, last = unrolled(
            cell,
            tensors[0],
            tensors[5 : 5 + cell.states],
            Parameters(*tensors[1:5]),
            Traversal(walk.lengths, walk.reset, restart, walk.reverse),
        )
        return hs, *last

    assert_close(torch.func.jvp(run, tensors, tangents)[1], torch.func.jvp(truth, tensors, tangents)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("cell", [*PACKED, CELLS[-1]], ids=name)
def test_vmap_of_grad_is_one_gradient_a_sample(cell, dtype):
    run, tensors, _ = function(cell)
    xs, *rest = (x.to(dtype) for x in tensors)
    many = torch.stack([xs, xs * 0.5, xs - 0.1])

    def loss(weights, xs):
        return sum(y.square().sum() for y in run(xs, *weights))

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(tuple(rest), many)
    for k, x in enumerate(many):
        leaves = [w.clone().requires_grad_() for w in rest]
        wanted = torch.autograd.grad(loss(leaves, x), leaves)
        assert_close([g[k] for g in each], wanted, 50 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_gradients_of_gradients_whichever_way(cell):
    run, tensors, _ = function(cell)
    loss = lambda xs: sum((y**3).sum() for y in run(xs, *tensors[1:]))
    reverse_twice = torch.func.jacrev(torch.func.jacrev(loss))(tensors[0])
    forward_over_reverse = torch.func.hessian(loss)(tensors[0])
    assert_close([reverse_twice], [forward_over_reverse])
    xs = tensors[0].clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(xs), xs, create_graph=True)
    v = torch.randn_like(g)
    (hv,) = torch.autograd.grad(g, xs, v)
    assert_close([hv], [(forward_over_reverse.flatten(0, 2).flatten(1) @ v.flatten()).view_as(v)])


@pytest.mark.parametrize("cell", first([Elman()], [Elman(), GRU(), LSTM()]), ids=str)
def test_every_tensor_has_a_second_derivative(cell):
    run, tensors, _ = function(cell, lengths=True, reset=True, reverse=True)
    assert torch.autograd.gradgradcheck(run, tuple(x.requires_grad_() for x in tensors))


@pytest.mark.slow
def test_the_library_has_second_derivatives_too():
    given = arguments(GRU(), TINY)
    leaves = [x for x in (given[1], *given[2], *given[3:7], *given[9])]

    def run(*t):
        return tuple(forward("gru", t[0], [t[1]], *t[2:6], given[7], given[8], [t[6]], *given[10:])[:-1])

    assert torch.autograd.gradcheck(run, leaves)
    assert torch.autograd.gradgradcheck(run, leaves)


@pytest.mark.slow
def test_compiles_to_one_node():
    """In a process of its own: the checks of shapes in this one are not for torch.compile to see."""
    subprocess.run([sys.executable, Path(__file__).with_name("compiled.py")], check=True)


def test_a_graph_may_be_walked_twice():
    run, tensors, _ = function(GRU())
    leaves = [x.requires_grad_() for x in tensors]
    loss = run(*leaves)[0].square().sum()
    once = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert_close(torch.autograd.grad(loss, leaves), once, 0.0)


def test_what_was_not_kept_is_said():
    given = arguments(GRU(), keep="none")
    with pytest.raises(ValueError, match="keep is 'none', which leaves nothing to go backward from"):
        forward(*given)[0].sum().backward()


def test_a_clipped_adjoint_refuses_forward_mode():
    p = problem(GRU(), SIZES)
    with pytest.raises(NotImplementedError, match="no forward mode"):
        torch.func.jvp(lambda xs: recurrence(GRU(), xs, p.state, p.parameters, clip_adjoint=1.0)[0], (p.xs,), (p.xs,))


def test_a_clipped_adjoint_refuses_a_second_derivative_in_the_library():
    given = arguments(GRU(), clip=1.0)
    (g,) = torch.autograd.grad(forward(*given)[0].square().sum(), given[1], create_graph=True)
    with pytest.raises(NotImplementedError, match="has no derivative"):
        g.sum().backward()
