"""Several layers by one call of the extension: the plain loop's values and gradients, and what is refused."""

import pytest
import torch
from _problems import arrays, assert_close as assert_problem, by_kernels, by_plain, problem, rounding as rounding_of
from _rounding import assert_close, path, rounding

from throughtime import _kernels, kernels
from throughtime.cells import GRU, LSTM, Elman, Relu, Tanh, zoo
from throughtime.kernels import generated, set_kernels, several, several_of

CELLS = [Elman(Tanh()), Elman(Relu()), GRU(), LSTM()]
SIZES = [(1, 1, 5, 7), (1, 3, 33, 17), (3, 1, 16, 33), (2, 2, 5, 8), (4, 3, 6, 9)]  # three rows are the most that are not packed


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)


def weights_of(cell, I: int, H: int, L: int, *, bias: bool = True) -> tuple:
    rows, new = cell.gates * H, lambda *shape: (torch.randn(shape) / shape[-1] ** 0.5).requires_grad_()
    layers = [(new(rows, H if l else I), new(rows, H), *((new(rows), new(rows)) if bias else (None, None))) for l in range(L)]
    return tuple(p for layer in layers for p in layer)


def layer_by_layer(cell, xs, state, weights):
    """The plain loop, one layer after another: the definition."""
    set_kernels("plain")
    try:
        lasts = []
        for l in range(len(weights) // 4):
            before = tuple(s[l] for s in state)
            xs, last = kernels.recurrence(cell, xs, before, kernels.Parameters(*weights[4 * l : 4 * l + 4]))
            lasts.append(last)
        return xs, tuple(torch.stack(s) for s in zip(*lasts, strict=True))
    finally:
        set_kernels("fast")


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "given"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_plain_loop_in_value_and_gradient(cell, given):
    for (T, B, I, H), L, bias in zip(SIZES, (1, 2, 3, 1, 4), (True, True, False, False, True), strict=True):
        weights = weights_of(cell, I, H, L, bias=bias)
        xs, state = torch.randn(T, B, I, requires_grad=True), tuple(torch.randn(L, B, H, requires_grad=given) for _ in range(cell.states))
        state = state if given else tuple(torch.zeros_like(s) for s in state)
        leaves = [x for x in (xs, *state, *weights) if x is not None and x.requires_grad]
        wanted, got = layer_by_layer(cell, xs, state, weights), several(several_of(cell, L, "fast"), xs, state if given else None, weights)
        assert got is not None
        cotangents = [torch.randn_like(y) for y in (wanted[0], *wanted[1])]
        found = [[ys[0], *ys[1], *torch.autograd.grad([ys[0], *ys[1]], leaves, cotangents)] for ys in (got, wanted)]
        assert_close(found[0], found[1], rounding(path(T, I + H, L)))


@pytest.mark.parametrize("arch", _kernels.architectures())
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_few_rows_are_multiplied_by_weights_as_they_are_stored(cell, arch):
    for sizes in [(1, 1, 1, 1), (1, 1, 40, 130), (1, 2, 7, 64), (3, 1, 65, 17), (1, 3, 16, 16), (2, 1, 9, 31)]:
        for walk in ({}, {"reset": True, "clip": 0.5}, {"lengths": True, "reverse": True}):
            p = problem(cell, sizes, **walk)
            truth = arrays(*by_plain(p))
            for keep, threads in (("fast", 1), ("lean", 1), ("fast", 2)):
                assert_problem(arrays(*by_kernels(p, keep=keep, arch=arch, threads=threads)), truth, rounding_of(sizes))


@pytest.mark.parametrize("cell", [Elman(Tanh()), GRU(), LSTM()], ids=str)
def test_gradients_of_gradients(cell):
    weights = weights_of(cell, 3, 4, 2)
    xs, state = torch.randn(3, 2, 3, requires_grad=True), tuple(torch.randn(2, 2, 4, requires_grad=True) for _ in range(cell.states))
    leaves, found = [xs, *state, *weights], []
    cotangents = [torch.randn(3, 2, 4), *(torch.randn(2, 2, 4) for _ in state)]
    seconds = [torch.randn_like(x) for x in leaves]
    for hs, last in (several(several_of(cell, 2, "fast"), xs, state, weights), layer_by_layer(cell, xs, state, weights)):
        first = torch.autograd.grad([hs, *last], leaves, cotangents, create_graph=True)
        found.append(torch.autograd.grad(first, leaves, seconds))
    assert_close(found[0], found[1], rounding(2 * path(3, 7, 2)))  # the derivative goes each way once more


def test_a_tensor_given_twice_has_the_gradient_of_both_places():
    """The second layer's weights are the first's; each derivative is a sum over both."""
    weights = weights_of(GRU(), 4, 4, 1) * 2
    xs, cotangent = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    state = (torch.zeros(2, 2, 4),)
    found = []
    for ys in (several(several_of(GRU(), 2, "fast"), xs, None, weights), layer_by_layer(GRU(), xs, state, weights)):
        first = torch.autograd.grad(ys[0], weights[:4], cotangent, create_graph=True)
        found.append([*first, *torch.autograd.grad(sum(g.square().sum() for g in first), weights[:4])])
    assert_close(found[0], found[1], rounding(path(3, 8, 2), condition=10.0))


@pytest.mark.parametrize("cell", [GRU(), LSTM()], ids=str)
def test_an_output_that_is_not_used(cell):
    """The last state alone arrives, as the state of one layer, and hs has no gradient."""
    weights, xs = weights_of(cell, 3, 4, 2), torch.randn(3, 2, 3)
    zeros = tuple(torch.zeros(2, 2, 4) for _ in range(cell.states))
    found = []
    for _, last in (several(several_of(cell, 2, "fast"), xs, None, weights), layer_by_layer(cell, xs, zeros, weights)):
        found.append(torch.autograd.grad(last[-1][0].square().sum(), weights[:4]))
    assert_close(found[0], found[1], rounding(path(3, 7, 2)))


def test_what_the_extension_does_not_take_is_left_to_the_ordinary_way():
    call, weights = several_of(GRU(), 1, "fast"), weights_of(GRU(), 3, 4, 1)
    good = torch.randn(2, 2, 3)
    for xs in (good.int(), good.float(), good[..., :2], good[:0], good.half()):
        assert several(call, xs, None, weights) is None
    assert several(call, good, (torch.randn(1, 3, 4),), weights) is None
    assert several(call, good, None, (weights[0].T, *weights[1:])) is None
    assert several_of(Elman(lambda a: torch.softmax(a, -1)), 1, "fast") is None


def good_call() -> dict:
    weights = tuple(p.detach() for p in weights_of(LSTM(), 3, 4, 2))
    size = _kernels.residuals_size(_kernels.LSTM, (5, 2, 4), "fast", True)
    two = lambda *shape: (torch.zeros(shape), torch.zeros(shape))
    return dict(
        cell=_kernels.LSTM, xs=torch.randn(5, 2, 3), state=two(2, 2, 4), weights=weights, vectors=None, keep="fast", threads=1, hs=two(5, 2, 4),
        last=two(2, 2, 4), residuals=two(size), dhs=torch.zeros(5, 2, 4), dlast=two(2, 2, 4), dxs=torch.zeros(5, 2, 3),
        dstate=two(2, 2, 4), dweights=tuple(torch.zeros_like(p) for p in weights), dvectors=None, between=(torch.zeros(5, 2, 4),),
    )  # fmt: skip


def call_both(a: dict) -> None:
    call = tuple(a[name] for name in ("cell", "xs", "state", "weights", "vectors", "keep", "threads"))
    _kernels.forward_layers(call, (a["hs"], a["last"], a["residuals"]))
    _kernels.backward_layers(
        call, (a["hs"], a["residuals"]), (a["dhs"], a["dlast"]), tuple(a[n] for n in ("dxs", "dstate", "dweights", "dvectors", "between"))
    )


ARRAYS = [name for name, value in good_call().items() if name not in ("cell", "vectors", "dvectors", "keep", "threads")]


@pytest.mark.parametrize("name", ARRAYS)
def test_a_wrong_array_is_refused(name):
    call_both(good_call())
    value = good_call()[name]
    for at in range(len(value)) if isinstance(value, tuple) else (None,):
        good = value if at is None else value[at]
        for wrong in (good[None], good.flatten()[:-1], good.float(), good.int(), "text", 3, object()):
            changed = wrong if at is None else (*value[:at], wrong, *value[at + 1 :])
            with pytest.raises((ValueError, TypeError), match=r"expected|axes"):
                call_both(good_call() | {name: changed})
    if isinstance(value, tuple):
        for wrong in ((), (*value, value[0]), [*value], 7):
            with pytest.raises((ValueError, TypeError), match="expected"):
                call_both(good_call() | {name: wrong})


@pytest.mark.skipif(generated.compiler_about().startswith("there is no"), reason=generated.compiler_about())
@pytest.mark.parametrize("name", ["vectors", "dvectors"])
def test_wrong_vectors_of_a_cells_own_are_refused(name):
    """Three vectors of four units each."""
    cell = zoo.ELSTM(4).double()
    call = several_of(cell, 1, "fast", dtype=torch.float64)
    assert call is not None
    weights = (torch.zeros(12, 3), torch.zeros(0, 4), torch.zeros(12), torch.zeros(0))
    size = _kernels.residuals_size(call.number, (5, 2, 4), "fast", True)
    two, good = (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)), tuple(torch.zeros(4) for _ in range(3))
    a = dict(
        cell=call.number, xs=torch.randn(5, 2, 3), state=two, weights=weights, vectors=good, keep="fast", threads=1, hs=(torch.zeros(5, 2, 4),),
        last=two, residuals=(torch.zeros(size),), dhs=torch.zeros(5, 2, 4), dlast=two, dxs=None, dstate=None,
        dweights=tuple(map(torch.zeros_like, weights)), dvectors=tuple(map(torch.zeros_like, good)), between=None,
    )  # fmt: skip
    call_both(a)
    v = good[0]
    for wrong in (
        (v[:3], v, v),
        (v.float(), v, v),
        (v[None], v, v),
        (None, v, v),
        ("text", v, v),
        (v, v),
        (v, v, v, v),
        [v, v, v],
        None,
        7,
    ):
        with pytest.raises((ValueError, TypeError), match="expected"):
            call_both(a | {name: wrong})


def test_steps_refuse_what_they_cannot_take():
    weights = tuple(p.detach() for p in weights_of(GRU(), 3, 4, 2))
    steps = _kernels.Steps(_kernels.GRU, weights, 2, 1)
    x, y = torch.randn(2, 3), torch.zeros(2, 4)
    steps.step(x, y)
    for wrong in (x[None], x[:1], x.float(), x.T.contiguous().T, None, "text"):
        with pytest.raises((ValueError, TypeError), match="expected"):
            steps.step(wrong, y)
    for wrong in (y[:, :3], y.float(), None):
        with pytest.raises((ValueError, TypeError), match="expected"):
            steps.step(x, wrong)
    for wrong in ((), (torch.zeros(2, 2, 3),), torch.zeros(2, 2, 4), (torch.zeros(2, 2, 4),) * 2):
        with pytest.raises((ValueError, TypeError), match="expected"):
            steps.write_state(wrong)
        with pytest.raises((ValueError, TypeError), match="expected"):
            steps.read_state(wrong)
    for bad in (weights[:3], (), (weights[0].float(), *weights[1:]), (*weights[:4], *weights[:4]), (None, *weights[1:]), [*weights]):
        with pytest.raises((ValueError, TypeError), match="expected"):
            _kernels.Steps(_kernels.GRU, bad, 2, 1)
    for streams, threads in ((0, 1), (-1, 1), (2, 0), ("2", 1)):
        with pytest.raises((ValueError, TypeError), match="expected"):
            _kernels.Steps(_kernels.GRU, weights, streams, threads)
