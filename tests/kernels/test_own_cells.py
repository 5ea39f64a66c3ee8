"""Cells of one's own as kernels that are written and compiled: against the plain loop and against autograd, in value and every gradient."""

import math
import random
from dataclasses import dataclass, field
from typing import Any, final

import pytest
import torch
from _problems import WALKS, arrays, assert_close, by_kernels, by_plain, problem, rounding
from _rounding import relative
from _tables import Coupled, bump, first, name
from hypothesis import example, given, settings, strategies as st
from torch import Tensor, nn

import throughtime as tt
from throughtime import _kernels
from throughtime.cells import GRU, LSTM, AbstractCell, Elman, Leaky, zoo
from throughtime.kernels import Parameters, _fast, generated, recurrence, serves
from throughtime.kernels._unrolled import unrolled
from throughtime.kernels.generated import _operators
from throughtime.kernels.generated._write import GATES

if generated.compiler_about().startswith("there is no"):
    pytest.skip(generated.compiler_about(), allow_module_level=True)


@final
@dataclass(frozen=True)
class Again(AbstractCell):
    """A cell of the package as somebody might write it: the definition that both kernels have."""

    cell: AbstractCell

    @property
    def gates(self):
        return self.cell.gates

    @property
    def states(self):
        return self.cell.states

    def step(self, wx, rh, state):
        return self.cell.step(wx, rh, state)


GALLERY = [kind(7) if issubclass(kind, nn.Module) else kind() for kind in zoo.NAMES.values()]
BARE = [cell for cell in GALLERY if not isinstance(cell, nn.Module) and not cell.late_gates]
OWN = [*BARE, Coupled(), Elman(bump), Elman(torch.sin), Leaky(0.3), Again(GRU()), Again(LSTM())]
QUICK = [OWN[0], Coupled()]


@pytest.mark.parametrize("walk", range(len(WALKS)))
@pytest.mark.parametrize("cell", first(QUICK, OWN), ids=name)
def test_the_kernel_is_the_plain_loop(cell, walk):
    for sizes in [(6, 3, 5, 7), (9, 9, 17, 19), (1, 1, 1, 1)]:
        p = problem(cell, sizes, **WALKS[walk])
        truth = arrays(*by_plain(p))
        for keep in ("fast", "lean"):
            assert_close(arrays(*by_kernels(p, keep=keep)), truth, rounding(sizes))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("arch", _kernels.architectures())
@pytest.mark.parametrize("cell", OWN, ids=name)
def test_every_architecture_and_type(cell, arch, dtype):
    sizes = (9, 9, 17, 19)
    p = problem(cell, sizes, lengths=True, reset=True, clip=0.5)
    for keep in ("fast", "lean"):
        assert_close(arrays(*by_kernels(p.to(dtype), keep=keep, arch=arch)), arrays(*by_plain(p)), rounding(sizes, dtype))


@pytest.mark.parametrize("sizes", [(12, 1, 64, 160), (8, 33, 40, 70)], ids=str)
def test_threads_share_the_batch_or_the_units(sizes):
    p = problem(QUICK[0], sizes, lengths=True, reset=True)
    truth = arrays(*by_plain(p))
    for threads in (2, 3):
        assert_close(arrays(*by_kernels(p, threads=threads)), truth, rounding(sizes))


# Vectors of a cell's own.


@final
class Masked(AbstractCell, nn.Module):
    """A learned vector inside a function, a learned number, and a fixed mask."""

    gates, states, elementwise = 1, 1, True

    def __init__(self, H: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.gain = nn.Parameter(torch.randn(H, generator=generator))
        self.decay = nn.Parameter(torch.tensor(0.4))
        self.register_buffer("sign", torch.where(torch.arange(H) % 3 == 0, -1.0, 1.0))

    def step(self, wx, rh, state):
        (h,) = state
        rate = torch.sigmoid(self.decay)
        return ((1 - rate) * h + rate * self.sign * torch.tanh(torch.exp(0.3 * self.gain) * (wx + rh)[:, 0]),)


@final
@dataclass(frozen=True, eq=False)
class Bare(AbstractCell):
    """A learned vector of a cell that is no module."""

    gain: Tensor
    gates, states, elementwise = 1, 1, True

    def step(self, wx, rh, state):
        return (torch.tanh(self.gain * (wx + rh)[:, 0]),)


def vector_cells() -> list[Any]:
    return [cell.double() for cell in (zoo.PeepholeLSTM(7), zoo.CTRNN(7), Masked(7))]


@pytest.mark.parametrize("sizes", [(5, 3), (40, 9)], ids=str)
@pytest.mark.parametrize("walk", [{}, {"lengths": True, "reset": True, "reverse": True}], ids=str)
@pytest.mark.parametrize("which", [2, pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow)])
def test_learned_vectors_have_their_gradients(which, walk, sizes):
    """Also over several chunks of 256 rows, and shared between threads."""
    cell, (T, B) = vector_cells()[which], sizes
    with torch.no_grad():
        for v in cell.parameters():
            v.normal_()
    p = problem(cell, (T, B, 5, 7), **walk)
    leaves = [p.xs, *p.state, *p.parameters, *(p.traversal.restart or ())]
    for x in leaves:
        x.requires_grad_()
    leaves += list(cell.parameters())
    assert serves(cell, p.xs) == "fast"

    def gradients(run):
        hs, last = run(cell, p.xs, p.state, p.parameters, traversal=p.traversal)
        return [hs.detach(), *torch.autograd.grad((hs, *last), leaves, (p.dhs, *p.dlast))]

    assert_close(gradients(recurrence), gradients(unrolled), rounding((T, B, 5, 7)))


def test_a_trace_adds_the_gradients_of_learned_vectors():
    cell = Masked(7)
    stack, xs, dhs = tt.nn.Recurrence(cell, 5, 7).double(), torch.randn(6, 3, 5).double(), torch.randn(6, 3, 7).double()
    stack.trace(xs).backward(dhs, None)
    found = [v.grad.clone() for v in cell.parameters()]
    stack.zero_grad()
    stack(xs)[0].backward(dhs)
    assert_close(found, [v.grad for v in cell.parameters()])
    assert set(stack.state_dict()) >= {"cell.gain", "cell.decay", "cell.sign"}


def test_what_learned_vectors_cannot_have():
    stack = tt.nn.Recurrence(Masked(7), 5, 7)
    model = tt.SequenceModel(tt.models.Vectors(5), stack, tt.models.Head(7, 2, output=tt.models.Linear(), loss=tt.models.SquaredError()))
    batch = tt.Batch(torch.randn(4, 3, 5), torch.randn(4, 3, 2))
    with pytest.raises(NotImplementedError, match=r"KFRTRL.*Masked has learned vectors of its own"):
        tt.gradients.KFRTRL().accumulate(model, batch)
    with pytest.raises(tt.InputError, match=r"num_layers is 2, and Bare has learned vectors of its own and is no nn\.Module"):
        tt.nn.Recurrence(Bare(torch.ones(7, requires_grad=True)), 5, 7, num_layers=2)
    with pytest.raises(tt.InputError, match="gain of Masked has 7 numbers and the layer 8 hidden units"):
        tt.nn.Recurrence(Masked(7), 5, 8)(torch.randn(4, 3, 5))


def test_a_changed_attribute_is_another_cell():
    class Scaled(AbstractCell, nn.Module):
        gates = states = 1

        def __init__(self):
            super().__init__()
            self.scale = 1.0

        def step(self, wx, rh, state):
            return (self.scale * torch.tanh(wx + rh)[:, 0],)

    cell, p = Scaled(), problem(Elman(), (3, 2, 2, 5))
    for cell.scale in (1.0, 0.5):
        hs, _ = recurrence(cell, p.xs, p.state, p.parameters)
        assert_close([hs], [unrolled(cell, p.xs, p.state, p.parameters)[0]])


# Any step.

UNARY = (
    torch.tanh, torch.sigmoid, torch.sin, torch.cos, torch.exp, torch.relu, torch.abs, torch.neg, torch.square, torch.atan, torch.erf,
    torch.nn.functional.softplus, torch.nn.functional.silu, torch.nn.functional.gelu, torch.nn.functional.elu, torch.expm1,
    lambda x: torch.log(1 + x * x), lambda x: torch.sqrt(0.1 + x.abs()), lambda x: x.clamp(-0.7, 0.9), lambda x: 1 / (1 + x * x),
    lambda x: torch.log1p(x.abs()), lambda x: x**3, lambda x: (1 + x.abs()) ** -1.5, lambda x: 0.3 * x, lambda x: x - 0.25,
)  # fmt: skip
BINARY = (
    torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum, lambda a, b: a / (1 + b * b), lambda a, b: torch.where(a > b, a, 0.5 * b),
    lambda a, b: torch.lerp(a, b, 0.3), lambda a, b: torch.addcmul(a, a, b, value=0.5),
)  # fmt: skip


@final
@dataclass(frozen=True)
class Drawn(AbstractCell):
    """A step of random elementwise operations, each bounded after so that nothing overflows; of any structure of R."""

    seed: int

    @property
    def gates(self):
        return random.Random(self.seed).choice([1, 2, 3, 4, 6])

    @property
    def states(self):
        return random.Random(self.seed + 1).choice([1, 1, 2, 3])

    @property
    def recurrent_gates(self):
        draw = random.Random(self.seed + 3)
        return self.gates if draw.random() < 0.5 else draw.choice([0, 1, 2, 3, 4])

    @property
    def late_gates(self):
        draw, rows = random.Random(self.seed + 4), self.recurrent_gates
        late = draw.randint(0, rows) if draw.random() < 0.5 else 0
        return late if {late, rows - late} <= {0, *GATES} else 0

    def between(self, wx: Tensor, rh: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        return 0.5 * state[0] + 0.5 * torch.tanh(self._drawn(self.seed + 5, 10, [*wx.unbind(1), *rh.unbind(1), *state])[-1])

    def step(self, wx: Tensor, rh: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        values = self._drawn(self.seed + 2, 40, [*wx.unbind(1), *rh.unbind(1), *state])
        return tuple(0.5 * values[-1 - k % len(values)] + 0.5 * torch.tanh(values[k]) for k in range(self.states))

    def _drawn(self, seed: int, most: int, values: list[Tensor]) -> list[Tensor]:
        draw = random.Random(seed)
        for _ in range(draw.randint(1, most)):
            if draw.random() < 0.5:
                found = draw.choice(UNARY)(draw.choice(values))
            else:
                found = draw.choice(BINARY)(draw.choice(values), draw.choice(values))
            values.append(torch.tanh(found) if draw.random() < 0.5 else found / (1 + found.abs()))
        return values


def compare_with_plain(cell: AbstractCell) -> None:
    """Within rounding times the condition of the problem, which a small change of the inputs measures."""
    sizes = (4, 3, 2, 9)
    p = problem(cell, sizes, reset=True)
    truth, found = arrays(*by_plain(p)), arrays(*by_kernels(p))
    change = 1e-7
    moved = p.__class__(cell, p.xs * (1 + change), tuple(s * (1 + change) for s in p.state), *list(vars(p).values())[3:])
    nearby = arrays(*by_plain(moved))
    condition = max(1.0, *(relative(nearby[k], truth[k]) / change for k in truth if bool(truth[k].any())))
    assert_close(found, truth, 40 * rounding(sizes) * condition)  # 40 operations where rounding() counts a handful


@settings(max_examples=3, deadline=None, derandomize=True)
@example(seed=1016)  # keeps a truth value if it may
@given(seed=st.integers(0, 10**6))
def test_any_elementwise_step(seed):
    compare_with_plain(Drawn(seed))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_many_elementwise_steps(seed):
    compare_with_plain(Drawn(seed))


def test_a_wrong_rule_is_seen(monkeypatch):
    @dataclass(frozen=True)
    class Victim(AbstractCell):
        gates, states = 1, 1

        def step(self, wx, rh, state):
            return (torch.tanh(0.77 * wx + rh)[:, 0],)

    wrong = lambda m, d, y: m.each("mul", d, m.each("sub", 1.001, m.each("mul", y, y)))
    monkeypatch.setitem(_operators._BY_NAME, "tanh_backward", wrong)
    with pytest.raises(AssertionError, match="more than"):
        compare_with_plain(Victim())


@final
@dataclass(frozen=True)
class Functions(AbstractCell):
    """Four functions of the input alone, one a state."""

    functions: tuple[Any, ...] = field(default=(torch.sin, torch.cos, torch.log, torch.expm1))

    gates, states = 1, 4

    def step(self, wx, rh, state):
        return tuple(f(wx[:, 0]) for f in self.functions)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_functions_are_right_to_a_few_units_in_the_last_place(dtype):
    """Against the C library in float64; sine and cosine also absolutely, for near their zeros no function of a rounded x has digits."""
    tiny = torch.finfo(dtype).tiny
    small = torch.logspace(-30, 2, 3001, dtype=dtype)
    x = torch.cat(
        (
            small,
            -small,
            torch.linspace(-4000, 4000, 5001, dtype=dtype),
            torch.tensor([0.0, tiny, 1e5, 3e7, math.inf, math.nan], dtype=dtype),
        )
    )
    x = torch.cat((x, torch.arange(1.0, 40, dtype=dtype) * (math.pi / 2)))
    cell, H = Functions(), len(x)
    weights = Parameters(torch.ones(1, H, 1, dtype=dtype), torch.zeros(1, H, H, dtype=dtype), x[None], None)
    zeros = tuple(torch.zeros(1, H, dtype=dtype) for _ in range(4))
    _, found = recurrence(cell, torch.zeros(1, 1, 1, dtype=dtype), zeros, weights)
    for f, got in zip(cell.functions, found, strict=True):
        wanted = f(x.double())
        near = 4 * torch.finfo(dtype).eps * (wanted.abs() + (1.0 if f in (torch.sin, torch.cos) else 0.0)) + torch.finfo(dtype).tiny
        same = (got[0].double() == wanted.to(dtype).double()) | (got[0].isnan() & wanted.isnan())
        assert bool((same | ((got[0].double() - wanted).abs() <= near)).all()), f.__name__


# What cannot be a kernel, and what is no step.


def cell_of(step: Any, gates: int = 1, states: int = 1) -> AbstractCell:
    kind = type("Given", (AbstractCell,), {"gates": gates, "states": states, "step": lambda self, wx, rh, state: step(wx, rh, state)})
    return kind()


def counted(wx, rh, state):
    if float(wx.sum()) > 0:
        return (wx[:, 0],)
    return (rh[:, 0],)


REFUSED = {
    "softmax": (lambda wx, rh, s: (torch.softmax(wx[:, 0], -1),), r"softmax in step of Given \(.*line \d+\) mixes units"),
    "roll": (lambda wx, rh, s: (wx[:, 0].roll(1, -1),), r"roll in step of Given .* mixes units"),
    "mean": (
        lambda wx, rh, s: (wx[:, 0] - rh[:, 0].mean(1, keepdim=True),),
        r"sum in step of Given.* sums over the hidden units|mean in step",
    ),
    "over the batch": (lambda wx, rh, s: (wx[:, 0] * rh[:, 0].sum(0),), "does more with a sum over the batch than scale it|sum"),
    "one unit": (lambda wx, rh, s: (wx[:, 0] * rh[:, 0, :1],), "picks single hidden units"),
    "data": (counted, r"chooses by the data what to compute \(.*test_own_cells.py, line \d+\)"),
    "sizes": (lambda wx, rh, s: (wx[:, 0] / wx.shape[-1],), "computes with its sizes"),
    "type": (lambda wx, rh, s: (wx[:, 0].float().to(wx.dtype),), "changes the type to torch.float32"),
    "gates": (lambda wx, rh, s: (wx.sum(1),), "has 5 gates and 1 states; kernels can be written for 1, 2, 3, 4, 6, 8 gates"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_kernel_runs_on_the_plain_loop(what):
    step, message = REFUSED[what]
    cell = cell_of(step, gates=5 if what == "gates" else 1)
    with pytest.raises(NotImplementedError, match=message):
        tt.compile_cell(cell)
    assert serves(cell).startswith("plain: ")
    p = problem(cell, (3, 2, 2, 4))
    p.xs.requires_grad_()
    hs, _ = recurrence(cell, p.xs, p.state, p.parameters)
    wanted, _ = unrolled(cell, p.xs, p.state, p.parameters)
    assert_close([hs, *torch.autograd.grad(hs, p.xs, p.dhs)], [wanted, *torch.autograd.grad(wanted, p.xs, p.dhs)])


learned = torch.ones(3, requires_grad=True)
NO_STEP = {
    "a tensor": (lambda wx, rh, s: wx[:, 0], "returned a Tensor; expected a tuple of 1 tensor"),
    "too many": (lambda wx, rh, s: (wx[:, 0], rh[:, 0]), "returned 2 states; expected a tuple of 1 tensor"),
    "a shape": (lambda wx, rh, s: (wx,), r"returned state 0 of shape \(5, 1, 7\)"),
    "a type": (lambda wx, rh, s: (wx[:, 0].half(),), "returned state 0 as torch.float16 for"),
    "random": (lambda wx, rh, s: (wx[:, 0] * torch.rand_like(s[0]),), r"rand_like in step of Given \(.*\) draws from a random generator"),
    "dropout": (lambda wx, rh, s: (nn.functional.dropout(wx[:, 0]),), "draws from a random generator"),
    "in place": (
        lambda wx, rh, s: (s[0].mul_(0.5).add(wx[:, 0]),),
        r"mul_ in step of Given \(.*\) changes its input in place.*Write mul without",
    ),
    "closed over": (lambda wx, rh, s: (wx[:, 0] * learned.sum(),), "uses a tensor that requires a gradient and is no parameter"),
    "no gradient": (lambda wx, rh, s: (torch.ones_like(s[0]),), "has no gradient"),
}


@pytest.mark.parametrize("what", NO_STEP)
def test_what_is_no_step_is_refused(what):
    cell = cell_of(NO_STEP[what][0])
    p = problem(Elman(), (3, 2, 2, 4))
    with pytest.raises(tt.InputError, match=NO_STEP[what][1]):
        recurrence(cell, p.xs, p.state, p.parameters)


def test_a_derivative_by_hand_is_the_derivative(monkeypatch):
    """A step_vjp that is not the derivative of the step, such as a surrogate for a threshold, is the kernel's too."""

    @dataclass(frozen=True)
    class Spike(AbstractCell):
        gates = states = 1

        def step(self, wx, rh, state):
            return ((wx + rh)[:, 0].gt(0).to(wx.dtype),)

        def step_vjp(self, wx, rh, state, state_next, dstate):
            a = wx + rh
            da = dstate[0].unsqueeze(1) / (1 + a * a)
            return da, da, (torch.zeros_like(dstate[0]),)

    p = problem(Spike(), (6, 3, 5, 7))
    assert serves(Spike(), p.xs) == "fast"
    assert_close(arrays(*by_kernels(p)), arrays(*by_plain(p)), rounding((6, 3, 5, 7)))


def test_an_autograd_function_keeps_its_own_derivative():
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, g):  # pyright: ignore[reportIncompatibleMethodOverride]
            return 0.5 * g

    cell = cell_of(lambda wx, rh, s: (torch.tanh(Round.apply(3 * (wx + rh)[:, 0])),))
    p = problem(cell, (5, 3, 5, 7))
    p.xs.requires_grad_()
    assert serves(cell, p.xs) == "fast"
    found, wanted = (torch.autograd.grad(run(cell, p.xs, p.state, p.parameters)[0], p.xs, p.dhs)[0] for run in (recurrence, unrolled))
    assert_close([found], [wanted], rounding((5, 3, 5, 7)))


def test_the_package_and_its_transforms_know_a_cell_of_ones_own():
    cell = QUICK[0]
    p = problem(cell, (4, 3, 5, 7))
    loss = lambda W, x: recurrence(cell, x.unsqueeze(1), (p.xs.new_zeros(1, 7),), Parameters(W, *p.parameters[1:]))[0].square().sum()
    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 1))(p.parameters.W, p.xs)
    one_by_one = torch.stack([torch.func.grad(loss)(p.parameters.W, p.xs[:, b]) for b in range(3)])
    assert_close([per_sample], [one_by_one])
    assert generated.known(cell).name.startswith("own_")
    assert (
        _fast.supports(cell, torch.zeros(1, dtype=torch.float16)) == "the input is torch.float16; the kernels are for float32 and float64"
    )
