"""``Recurrence`` the short way: the plain loop's numbers, and the ordinary way wherever an option is in use."""

import subprocess
import sys

import pytest
import torch
from _rounding import assert_close, path, rounding
from torch import nn

import throughtime as tt
from throughtime.cells import zoo
from throughtime.kernels import generated
from throughtime.nn import _layer_base, _stack

T, B, I, H, L = 6, 3, 4, 5, 2
CELLS = (tt.cells.Elman(), tt.cells.GRU(), tt.cells.LSTM())
INITIALS = (tt.nn.Zeros(), tt.nn.Learnable(), tt.nn.Random())


@pytest.fixture
def short_calls(monkeypatch):
    """What the short way has answered, so that a test can say that it tried it."""
    found, calls = _stack.short_stack, []

    def counted(*arguments):
        result = found(*arguments)
        calls.append(result is not None)
        return result

    monkeypatch.setattr(_stack, "short_stack", counted)
    return calls


def found(stack: tt.nn.Recurrence, xs: torch.Tensor, state: tuple[torch.Tensor, ...] | None) -> dict[str, torch.Tensor]:
    """Output, last state, and the gradients of everything that they depend on."""
    torch.manual_seed(1)  # of random initial states
    hs, last = stack(xs, state)
    leaves = {"xs": xs, **dict(stack.named_parameters())} | ({} if state is None else dict(zip("hc", state, strict=False)))
    loss = hs.square().sum() + sum((k + 1) * s.sum() for k, s in enumerate(last))
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {"hs": hs.detach(), "last": torch.stack(last).detach()} | {
        f"d{n}": g for n, g in zip(leaves, gradients, strict=True) if g is not None and g.numel()
    }


@pytest.fixture
def plain():
    """Switches the packed kernels off."""
    yield lambda: tt.set_kernels("plain")
    tt.set_kernels("fast")


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("initial", INITIALS, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
def test_the_short_way_is_the_plain_loop(cell, initial, given, short_calls, plain):
    stack = tt.nn.Recurrence(cell, I, H, num_layers=L, initial=initial).double()
    xs = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    state = tuple(torch.randn(L, B, H, dtype=torch.float64, requires_grad=True) for _ in range(cell.states)) if given else None
    got = found(stack, xs, state)
    plain()
    wanted = found(stack, xs, state)
    assert short_calls == [True, False]
    assert_close(got, wanted, rounding(path(T, I + H, L), condition=10.0))


compiles = pytest.mark.skipif(generated.compiler_about().startswith("there is no"), reason=generated.compiler_about())
COMPILED = (zoo.ELSTM, zoo.ResetBeforeGRU, zoo.MinGRU)  # by other quick tests too; the cache keeps them
OTHERS = [kind for kind in zoo.NAMES.values() if kind not in (*COMPILED, zoo.EINetwork)]


@compiles
@pytest.mark.parametrize("T", [1, 6])
@pytest.mark.parametrize("kind", [*COMPILED, *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS)], ids=lambda k: k.__name__)
def test_a_cell_of_ones_own_goes_the_short_way(kind, T, short_calls, plain):
    """One layer where it has vectors of its own, which then are drawn; twice differentiated, too."""
    module = issubclass(kind, nn.Module)
    stack = tt.nn.Recurrence(kind(H) if module else kind(), I, H, num_layers=1 if module else L).double()
    for v in stack.cell.parameters() if module else ():
        nn.init.normal_(v)
    xs = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)

    def seen():
        leaves = [xs, *(p for p in stack.parameters() if p.numel())]
        first = torch.autograd.grad(stack(xs)[0].square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        return found(stack, xs, None) | {f"second {k}": g for k, g in enumerate(second)}

    got = seen()
    plain()
    wanted = seen()
    assert short_calls == [True, True, False, False]
    assert_close(got, wanted, rounding(path(T, I + H, L), condition=100.0))


class Shared(tt.cells.AbstractCell, nn.Module):
    """A learned number that all units share."""

    gates, states, elementwise = 1, 1, True

    def __init__(self):
        super().__init__()
        self.decay = nn.Parameter(torch.tensor(0.4))

    def step(self, wx, rh, state):
        return (self.decay * state[0] + torch.tanh(wx + rh)[:, 0],)


@compiles
@pytest.mark.parametrize(
    ("cell", "layers"), [(zoo.ELSTM(H), 2), pytest.param(Shared(), 1, marks=pytest.mark.slow)], ids=["layers", "shared"]
)
def test_vectors_that_the_short_way_does_not_know(cell, layers, short_calls):
    stack, xs = tt.nn.Recurrence(cell, I, H, num_layers=layers).double(), torch.ones(T, B, I, dtype=torch.float64)
    stack(xs)[0].sum().backward()
    assert short_calls == [False]
    assert all(p.grad is not None and bool(p.grad.any()) for p in stack.cell.parameters())


@compiles
def test_vectors_that_change_between_the_passes_are_noticed():
    stack = tt.nn.Recurrence(zoo.ELSTM(H), I, H).double()
    hs, _ = stack(torch.ones(T, B, I, dtype=torch.float64))
    with torch.no_grad():
        stack.cell.w_f.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        hs.sum().backward()


@pytest.mark.parametrize("way", ["clip", "dropout", "reparametrised", "vmap"])
def test_an_option_goes_the_ordinary_way(way, short_calls):
    cell = tt.cells.GRU()
    stack, xs = tt.nn.Recurrence(cell, I, H, num_layers=L, dropout=0.5 if way == "dropout" else 0.0), torch.randn(T, B, I)
    if way == "reparametrised":
        nn.utils.parametrizations.weight_norm(stack, "weight_hh_l1")
    if way == "vmap":
        torch.vmap(lambda x: stack(x)[0], randomness="same")(torch.randn(2, T, B, I))
    else:
        stack(xs, clip_adjoint=1.0 if way == "clip" else None)
    assert not any(short_calls)


@pytest.mark.parametrize(
    ("xs", "state"),
    [
        (torch.zeros(T, B, I + 1), None),
        (torch.zeros(0, B, I), None),
        (torch.zeros(T, 0, I), None),
        (torch.zeros(T, B, I), (torch.zeros(L, B, H + 1),)),
        (torch.zeros(T, B, I), (torch.zeros(L, B, H), torch.zeros(L, B, H))),
        (torch.zeros(T, B), None),
    ],
)
def test_what_is_wrong_is_told_as_before(xs, state):
    with pytest.raises(tt.InputError):
        tt.nn.Recurrence(tt.cells.GRU(), I, H, num_layers=L)(xs, state)


def test_an_output_changed_in_place_is_noticed():
    """The output is what backward needs, and no copy of it."""
    stack = tt.nn.Recurrence(tt.cells.GRU(), I, H)
    hs, _ = stack(torch.randn(T, B, I))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        hs.mul_(2).sum().backward()


@pytest.mark.parametrize("functional", [False, True])
def test_a_projection_without_options_is_torchs_own_loop(functional, monkeypatch):
    """No kernel multiplies by a projection, and torch's loop is faster than ours. functorch's transforms need ours."""
    calls, unrolled = [], _layer_base.unrolled
    monkeypatch.setattr(_layer_base, "unrolled", lambda *arguments: calls.append(1) or unrolled(*arguments))
    layer, xs = tt.LSTM(I, H, proj_size=2), torch.randn(T, B, I)
    if functional:
        torch.vmap(lambda x: layer(x)[0])(xs.unsqueeze(0))
    else:
        layer(xs)
    assert bool(calls) == functional


@pytest.mark.slow
def test_a_projection_warns_nobody():
    """torch warns once a process, so this asks a new one."""
    program = "import torch, throughtime as tt; tt.LSTM(3, 4, proj_size=2)(torch.randn(5, 2, 3))"
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", program], check=True)
