"""Structures of R: none, late gates, constraints. The plain loop against autograd of loops written by hand, and kernels against the plain loop."""

from dataclasses import dataclass
from typing import Any, final

import pytest
import torch
from _problems import WALKS, arrays, assert_close, by_kernels, by_plain, problem, rounding
from _tables import first, name
from torch import Tensor, nn
from torch.nn import functional

import throughtime as tt
from throughtime import cells
from throughtime.cells import AbstractCell, zoo
from throughtime.kernels import Parameters, _fast, _plain, recurrence, serves, set_kernels
from throughtime.kernels._unrolled import unrolled

SIZES = (5, 3, 4, 6)


def made(kind: Any, H: int = SIZES[3]) -> Any:
    """A cell of the gallery in float64, with learned vectors that are not zero."""
    torch.manual_seed(1)
    cell = kind(H) if issubclass(kind, nn.Module) else kind()
    for v in cell.parameters() if isinstance(cell, nn.Module) else ():
        nn.init.normal_(v, std=0.5)
    return cell.double() if isinstance(cell, nn.Module) else cell


GALLERY = [made(kind) for kind in zoo.NAMES.values()]
STRUCTURED = [cell for cell in GALLERY if cell.late_gates or cell.rh_gates != cell.gates]


class Odd(AbstractCell, nn.Module):
    """Two late gates, one of which has another gradient than wx; more rows of R than gates; a learned vector in both stages."""

    gates, recurrent_gates, late_gates, states, elementwise = 2, 3, 2, 2, True

    def __init__(self, H: int = SIZES[3]) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.linspace(0.5, 1.5, H, dtype=torch.float64))

    def between(self, wx, rh, state):
        return self.p * torch.sigmoid(wx[:, 0] + rh[:, 0]) * state[1] + state[0]

    def step(self, wx, rh, state):
        n = torch.tanh(wx[:, 1] + self.p * rh[:, 1])
        b = torch.sigmoid(rh[:, 2] + self.p * state[0])
        return b * state[0] + (1 - b) * n, torch.sigmoid(wx[:, 0] + rh[:, 0]) * state[1] + n


@final
@dataclass(frozen=True)
class AllLate(AbstractCell):
    """R multiplies nothing but what the cell makes of h."""

    gates, late_gates, states, elementwise = 1, 1, 1, True

    def between(self, wx, rh, state):
        return torch.tanh(wx[:, 0] * state[0])

    def step(self, wx, rh, state):
        return (0.5 * state[0] + torch.tanh(wx[:, 0] + rh[:, 0]),)


@final
@dataclass(frozen=True)
class OneRow(AbstractCell):
    """Three gates, one of which has a half rh."""

    gates, recurrent_gates, states, elementwise = 3, 1, 1, True

    def step(self, wx, rh, state):
        z = torch.sigmoid(wx[:, 1] + rh[:, 0])
        return (z * state[0] + (1 - z) * torch.tanh(wx[:, 0] + wx[:, 2] * rh[:, 0]),)


STRUCTURED += [Odd(), AllLate(), OneRow()]


def vectors(cell: AbstractCell) -> list[Tensor]:
    return list(cell.parameters()) if isinstance(cell, nn.Module) else []


def by_autograd(p: Any) -> dict[str, Tensor]:
    """Values and gradients of the differentiable loop."""
    leaves = [p.xs, *p.state, *(q for q in p.parameters if q is not None), *(p.traversal.restart or ()), *vectors(p.cell)]
    leaves = [x.requires_grad_() for x in leaves]
    hs, last = unrolled(p.cell, p.xs, p.state, p.parameters, p.traversal)
    found = torch.autograd.grad((hs, *last), leaves, (p.dhs, *p.dlast), materialize_grads=True, allow_unused=True)
    for x in leaves:
        x.requires_grad_(isinstance(x, nn.Parameter))
    return dict(enumerate([hs.detach(), *found]))  # type: ignore[arg-type]


def by_hand(p: Any, run: Any, d: Any) -> dict[str, Tensor]:
    """The plain loop's results in the same order."""
    own = () if d.vectors is None else [g.sum_to_size(v.shape) for g, v in zip(d.vectors, vectors(p.cell), strict=True)]
    return dict(enumerate([run.hs, d.dxs, *d.dstate, *(g for g in d.parameters if g is not None), *(d.drestart or ()), *own]))  # type: ignore[arg-type]


@pytest.mark.parametrize("walk", [{}, {"lengths": True, "reset": True, "reverse": True}], ids=str)
@pytest.mark.parametrize("cell", first([c for c in GALLERY if type(c) in (zoo.ResetBeforeGRU, zoo.CoRNN, zoo.SRU)], GALLERY), ids=name)
def test_the_plain_loop_is_autograd(cell, walk):
    p = problem(cell, SIZES, **walk)
    assert_close(by_hand(p, *by_plain(p)), by_autograd(p), rounding(SIZES))


CHOSEN = [c for c in STRUCTURED if type(c) in (zoo.MinLSTM, zoo.SRU, zoo.ResetBeforeGRU, Odd)]


@pytest.mark.parametrize("walk", range(len(WALKS)))
@pytest.mark.parametrize("cell", first(CHOSEN, STRUCTURED), ids=name)
def test_the_kernel_of_every_structure_is_the_plain_loop(cell, walk):
    """Also with clipping, of learned vectors too, over several chunks of 256 rows, and with weights that are not packed."""
    for sizes in [SIZES, (40, 9, 17, 6), (1, 1, 1, 6), (3, 1, 4, 6)]:
        p = problem(cell, sizes, **WALKS[walk])
        assert serves(cell, p.xs) == "fast"
        run, d = by_plain(p)
        for keep in ("fast", "lean"):
            run_, d_ = by_kernels(p, keep=keep)
            assert_close(arrays(run_, d_), arrays(run, d), rounding(sizes))
            if d.vectors is not None:
                assert_close([d_.vectors], [d.vectors], rounding(sizes))


@pytest.mark.parametrize("walk", [{}, {"lengths": True, "reverse": True}, {"lengths": True, "reset": True}], ids=str)
@pytest.mark.parametrize("sizes", [(40, 9, 5, 77), (300, 1, 5, 77)], ids=str)
def test_a_cell_without_R_goes_panel_by_panel_through_every_chunk(sizes, walk):
    """Also where threads share the sequences, or the units of one."""
    for cell in (zoo.MinLSTM(), made(zoo.SRU, 77)):
        p = problem(cell, sizes, **walk)
        run, d = by_plain(p)
        for threads in (1, 2):
            run_, d_ = by_kernels(p, threads=threads)
            assert_close(arrays(run_, d_), arrays(run, d), rounding(sizes))
            if d.vectors is not None:
                assert_close([d_.vectors], [d.vectors], rounding(sizes))


@final
@dataclass(frozen=True)
class ByHand(AbstractCell):
    """Both stages have derivatives of their own, which are not the right ones."""

    gates, late_gates, states, elementwise = 2, 1, 1, True

    def between(self, wx, rh, state):
        return torch.round(4 * (wx[:, 0] + rh[:, 0])) / 4 + state[0]

    def between_vjp(self, wx, rh, state, dbetween):
        d = torch.stack((dbetween, torch.zeros_like(dbetween)), 1)
        return d, d[:, :1], (0.5 * dbetween,)

    def step(self, wx, rh, state):
        return (torch.sign(wx[:, 1] + rh[:, 1]),)

    def step_vjp(self, wx, rh, state, state_next, dstate):
        d = torch.stack((torch.zeros_like(dstate[0]), dstate[0] / (1 + (wx[:, 1] + rh[:, 1]).square())), 1)
        return d, d, (torch.zeros_like(dstate[0]),)


def test_two_stages_keep_derivatives_of_their_own():
    p = problem(ByHand(), SIZES)
    assert serves(p.cell, p.xs) == "fast"
    assert_close(arrays(*by_kernels(p)), arrays(*by_plain(p)), rounding(SIZES))


@pytest.mark.parametrize("cell", [zoo.MinGRU(), zoo.ResetBeforeGRU(), AllLate()], ids=name)
def test_threads_share_every_structure(cell):
    for sizes in [(12, 1, 64, 160), (64, 33, 40, 70)]:
        p = problem(cell, sizes, lengths=True, reset=True)
        truth = arrays(*by_plain(p))
        for threads in (2, 3):
            assert_close(arrays(*by_kernels(p, threads=threads)), truth, rounding(sizes))


@pytest.mark.parametrize("arch", first(["baseline"], _fast.architectures()))
def test_late_gates_in_float32_on_every_machine(arch):
    """Panels of one and of several vectors, and units that fill no vector."""
    for sizes in [(9, 1, 5, 33), (6, 5, 17, 70)]:
        p = problem(zoo.LEM(), sizes)
        for keep in ("fast", "lean"):
            found = arrays(*by_kernels(p.to(torch.float32), keep=keep, arch=arch))
            assert_close({k: a.double() for k, a in found.items()}, arrays(*by_plain(p)), rounding(sizes, torch.float32))


@final
@dataclass(frozen=True)
class InfiniteAtZero(AbstractCell):
    """Of zeros for everything, as beyond the last unit, comes what is no number."""

    gates, states, elementwise = 1, 1, True

    def step(self, wx, rh, state):
        a = wx[:, 0] + rh[:, 0]
        return (a / torch.sqrt(a * a + state[0] * state[0]),)


@pytest.mark.parametrize("walk", range(len(WALKS)))
def test_units_that_do_not_exist_spoil_nothing(walk):
    """A last vector that is not full, in products, in norms for clipping, and in weights that are not packed."""
    for sizes in [(6, 3, 4, 5), (3, 1, 4, 5)]:
        p = problem(InfiniteAtZero(), sizes, **WALKS[walk])
        assert_close(arrays(*by_kernels(p)), arrays(*by_plain(p)), 64 * rounding(sizes))  # 1/√ enlarges what is near zero


def test_the_reset_gate_before_the_product():
    """Against Cho's equations, written out."""
    p = problem(zoo.ResetBeforeGRU(), SIZES)
    W, R, b, c = p.parameters
    assert b is not None
    assert c is not None
    (h,), hs = p.state, []
    for x in p.xs:
        r = torch.sigmoid(functional.linear(x, W[0], b[0]) + functional.linear(h, R[0], c[0]))
        z = torch.sigmoid(functional.linear(x, W[1], b[1]) + functional.linear(h, R[1], c[1]))
        n = torch.tanh(functional.linear(x, W[2], b[2]) + functional.linear(r * h, R[2], c[2]))
        h = (1 - z) * n + z * h
        hs.append(h)
    assert_close([recurrence(p.cell, p.xs, p.state, p.parameters)[0]], [torch.stack(hs)], rounding(SIZES))


def test_long_expressive_memory_and_coupled_oscillators():
    """Against the equations of their papers."""
    p = problem(zoo.LEM(dt=0.7), SIZES)
    W, R, b, c = p.parameters
    y, z = p.state
    for x in p.xs:
        a = lambda k, state, x=x: x @ W[k].T + b[k] + state @ R[k].T + c[k]
        first_dt, second_dt = 0.7 * torch.sigmoid(a(0, y)), 0.7 * torch.sigmoid(a(1, y))
        z = (1 - first_dt) * z + first_dt * torch.tanh(a(2, y))
        y = (1 - second_dt) * y + second_dt * torch.tanh(a(3, z))
    assert_close(recurrence(p.cell, p.xs, p.state, p.parameters)[1], [y, z], rounding(SIZES))
    p = problem(zoo.CoRNN(), SIZES)
    W, R, b, c = p.parameters
    y, z = p.state
    for x in p.xs:
        force = torch.tanh(x @ W[0].T + b[0] + y @ R[0].T + c[0] + z @ R[1].T + c[1])
        z = z + 0.042 * (force - 2.7 * y - 4.7 * z)
        y = y + 0.042 * z
    assert_close(recurrence(p.cell, p.xs, p.state, p.parameters)[1], [y, z], rounding(SIZES))


SECOND = [GALLERY[-1], *(c for c in GALLERY if c.late_gates)]


@pytest.mark.parametrize("cell", first(SECOND[:2], [*SECOND, *(c for c in GALLERY[:-1] if vectors(c))]), ids=name)
def test_second_gradients_of_learned_vectors_and_of_two_stages(cell):
    """By the kernel's first gradient, differentiated, and by autograd alone."""
    p = problem(cell, SIZES)

    def second() -> list[Tensor]:
        leaves = [p.xs.requires_grad_(), p.parameters.W.requires_grad_(), *vectors(cell)]
        hs, _ = recurrence(cell, p.xs, p.state, p.parameters)
        first = torch.autograd.grad(hs, leaves, p.dhs, create_graph=True)
        return list(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))

    found = second()
    set_kernels("plain")
    try:
        assert_close(found, second(), 8 * rounding(SIZES))  # a gradient of squares of gradients: each factor brings its rounding, twice
    finally:
        set_kernels("fast")


# Stacks, gradient methods, flow.


def model_of(cell: AbstractCell, layers: int = 1, H: int = SIZES[3]) -> Any:
    torch.manual_seed(2)
    stack = tt.nn.Recurrence(cell, 3, H, num_layers=layers)
    head = tt.models.Head(H, 2, output=tt.models.Linear(), loss=tt.models.SquaredError())
    return tt.SequenceModel(tt.models.Vectors(3), stack, head, reduction="sum").double()


def batch_of(T: int = 7, B: int = 2) -> tt.Batch:
    generator = torch.Generator().manual_seed(3)
    return tt.Batch(*(torch.randn(T, B, n, generator=generator).double() for n in (3, 2)))


def gradients(model: Any, method: Any, batch: tt.Batch, pieces: int = 1) -> dict[str, Tensor]:
    model.zero_grad()
    carry = None
    for start in range(0, batch.T, batch.T // pieces):
        _, carry = method.accumulate(model, batch.steps(start, min(start + batch.T // pieces, batch.T)), carry)
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


EXACT = [tt.gradients.SlidingBPTT(7), tt.gradients.CheckpointedBPTT(every=2), tt.gradients.TruncatedBPTT(7)]
FORWARD = [tt.gradients.RTRL(), tt.gradients.BlockRTRL(3), tt.gradients.SnAp(99)]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", first([zoo.ELSTM, zoo.ResetBeforeGRU, zoo.EINetwork], list(zoo.NAMES.values())), ids=lambda k: k.__name__)
def test_every_exact_method_has_every_gradient(kind, layers):
    model, batch = model_of(made(kind), layers), batch_of()
    truth = gradients(model, tt.gradients.FullBPTT(), batch)
    assert all(bool(g.any()) for g in truth.values() if g.numel())
    for method in EXACT + (FORWARD if not model.recurrence.cell.late_gates else []):
        assert_close(gradients(model, method, batch), truth, 64 * rounding((7, 2, 3, 6)))


@pytest.mark.parametrize("kind", [zoo.ELSTM, zoo.MinGRU], ids=lambda k: k.__name__)
def test_RTRL_without_R_carries_what_a_unit_has_of_its_own(kind):
    """Exact over calls of one step, with O(P) numbers in the carry where a dense M has O(H P)."""
    model, batch = model_of(made(kind)), batch_of()
    truth = gradients(model, tt.gradients.FullBPTT(), batch)
    assert_close(gradients(model, tt.gradients.RTRL(), batch, pieces=7), truth, rounding((7, 2, 3, 6)))
    _, carry = tt.gradients.RTRL().accumulate(model, batch)
    P, S, B = sum(p.numel() for p in model.recurrence.parameters()), model.recurrence.cell.states, batch.B
    initial = S * S * SIZES[3] * B
    assert sum(t.numel() for t in carry.kept.values()) == S * B * P + initial


@pytest.mark.slow
def test_unbiased_methods_see_learned_vectors():
    """The mean over draws of signs is the gradient: within four of its standard errors, by one draw of a hundred seeds."""
    model, batch = model_of(made(zoo.ELSTM, 1), H=1), batch_of(T=3, B=1)
    truth = gradients(model, tt.gradients.FullBPTT(), batch)
    found = [gradients(model, tt.gradients.UORO(seed), batch) for seed in range(100)]
    for vector in ("w_f", "w_z", "w_o"):
        draws = torch.stack([g[f"recurrence.cell.{vector}"] for g in found])
        assert float(truth[f"recurrence.cell.{vector}"].abs()) > 0
        assert float((draws.mean(0) - truth[f"recurrence.cell.{vector}"]).abs()) <= 0.4 * float(draws.std(0)) + 1e-12


def test_what_forward_methods_cannot_have():
    with pytest.raises(NotImplementedError, match=r"RTRL\(\) runs forward in time .* ResetBeforeGRU has late gates"):
        gradients(model_of(zoo.ResetBeforeGRU()), tt.gradients.RTRL(), batch_of())
    with pytest.raises(NotImplementedError, match=r"KFRTRL\(seed=0\) factors the influence of W and R"):
        gradients(model_of(zoo.MinGRU()), tt.gradients.KFRTRL(), batch_of())


@pytest.mark.parametrize("cell", [zoo.LEM(), zoo.MinLSTM(), zoo.CoRNN()], ids=name)
def test_the_jacobian_of_a_step_is_autograds(cell):
    stack = tt.nn.Recurrence(cell, 3, 4).double()
    trace = stack.trace(torch.randn(5, 2, 3).double())
    layer, p = trace.layers[0], stack.parameters_of(0).map(Tensor.detach)
    before = torch.stack([s[3, 1] for s in layer.before])

    def step(s: Tensor) -> Tensor:
        state = tuple(one.unsqueeze(0) for one in s)
        after = cell.step(layer.wx[3, 1:], _plain.recurrent_half(cell, layer.wx[3, 1:], state, p.R, p.b_hh), state)
        return torch.stack([one[0] for one in after])

    wanted = torch.autograd.functional.jacobian(step, before).flatten(2).flatten(0, 1)
    for found in (layer.at(3).jacobian()[1], layer.at_points(torch.tensor([3]), torch.tensor([1])).jacobian()[0]):
        assert_close([found], [wanted], rounding((1, 1, 3, 4)))
    assert_close([layer.rh[3, 1:]], [_plain.recurrent_half(cell, layer.wx[3, 1:], tuple(before.unsqueeze(1)), p.R, p.b_hh)])


@pytest.mark.parametrize("kind", first([zoo.ELSTM], [zoo.ELSTM, zoo.ResetBeforeGRU, zoo.EINetwork]), ids=lambda k: k.__name__)
def test_the_flow_of_the_gradient_adds_up(kind):
    """Lag by lag, also of learned vectors and of what lies behind a constraint."""
    model, batch = model_of(made(kind), 2), batch_of(T=9)
    flow = tt.gradient_flow(model, batch)
    assert flow.lags.error < 1e-9
    assert {n for n, p in model.named_parameters() if "recurrence" in n and p.numel()} <= set(flow.lags.norms)


def test_layers_have_learned_vectors_of_their_own():
    stack = tt.nn.Recurrence(zoo.IndRNN(5), 3, 5, num_layers=3)
    assert {"cell.u", "cell_l1.u", "cell_l2.u"} < set(dict(stack.named_parameters()))
    xs = torch.randn(4, 2, 3)
    with torch.no_grad():
        stack.cell_of(1).u.fill_(0.5)
    below = xs
    for l in range(3):
        below, _ = recurrence(stack.cell_of(l), below, (torch.zeros(2, 5),), stack.parameters_of(l))
    assert_close([stack(xs)[0]], [below])


# Constraints.


@pytest.mark.parametrize("method", [tt.gradients.FullBPTT(), tt.gradients.RTRL(), tt.gradients.SlidingBPTT(7)], ids=str)
def test_training_keeps_a_constraint(method):
    signs, mask = torch.tensor([1.0, 1, 1, -1, 1, -2]), torch.rand(6, 6) < 0.5
    model = model_of(cells.Elman())
    for constraint in (cells.Dale(signs), cells.Masked(mask.double())):
        nn.utils.parametrize.register_parametrization(model.recurrence, "weight_hh_l0", constraint.double())
    optimiser, before = torch.optim.SGD(model.parameters(), 0.1), model.recurrence.weight_hh_l0.detach().clone()
    for _ in range(3):
        optimiser.zero_grad()
        method.accumulate(model, batch_of())
        optimiser.step()
    R = model.recurrence.weight_hh_l0.detach()
    assert not torch.equal(R, before)
    assert torch.equal(R != 0, mask)
    assert bool((R * signs >= 0).all())


def test_bad_constraints():
    with pytest.raises(tt.InputError, match=r"signs has shape \(2,\); expected \(H,\) numbers other than 0"):
        cells.Dale(torch.tensor([1.0, 0.0]))
    with pytest.raises(tt.InputError, match=r"mask has shape \(1, 2\); expected .* of 0 and 1"):
        cells.Masked(torch.tensor([[1.0, 0.5]]))
    with pytest.raises(tt.InputError, match=r"excitatory is 1\.0; expected the share"):
        zoo.EINetwork(excitatory=1.0)
    with pytest.raises(tt.InputError, match="dt is 0; expected"):
        zoo.UnICORNN(3, dt=0)


def test_a_second_direction_has_every_structure_but_a_constraint():
    for cell in (zoo.MinGRU(), zoo.ResetBeforeGRU()):
        assert tt.nn.Bidirectional(cell, 3, 4)(torch.zeros(5, 2, 3))[0].shape == (5, 2, 8)
    with pytest.raises(tt.InputError, match="EINetwork restricts R, which Recurrence alone does"):
        tt.nn.Bidirectional(zoo.EINetwork(), 3, 4)


def test_bad_structures():
    class Bad(AbstractCell):
        gates, states, late_gates = 2, 1, 1

        def step(self, wx, rh, state):
            return ((wx + rh)[:, 0],)

    class Worse(Bad):
        def between(self, wx, rh, state):
            return wx

    xs = torch.zeros(3, 2, 3)
    with pytest.raises(NotImplementedError, match="Bad has late_gates = 1 and no `between`"):
        tt.nn.Recurrence(Bad(), 3, 4)(xs)
    with pytest.raises(tt.InputError, match=r"between of Worse returned shape \(5, 2, 7\) for B, H = \(5, 7\); expected one tensor"):
        tt.nn.Recurrence(Worse(), 3, 4)(xs)
    Worse.late_gates = 3
    with pytest.raises(tt.InputError, match="Worse has recurrent_gates = 2 and late_gates = 3; expected"):
        tt.nn.Recurrence(Worse(), 3, 4)


# Transforms.


@pytest.mark.parametrize("cell", [zoo.MinGRU(), zoo.ResetBeforeGRU()], ids=name)
def test_transforms_know_every_structure(cell):
    p = problem(cell, SIZES)
    loss = lambda W, x: recurrence(cell, x.unsqueeze(1), (p.xs.new_zeros(1, 6),), Parameters(W, *p.parameters[1:]))[0].square().sum()
    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 1))(p.parameters.W, p.xs)
    assert_close([per_sample], [torch.stack([torch.func.grad(loss)(p.parameters.W, p.xs[:, b]) for b in range(3)])])
