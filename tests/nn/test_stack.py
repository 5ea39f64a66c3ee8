"""Stacks: torch's face outside, several layers inside, and where states and weights start."""

import math

import pytest
import torch
from _truth import assert_close, gradients

from throughtime import nn
from throughtime.cells import GRU, LSTM, Elman, Relu, zoo
from throughtime.nn import Chrono, ForgetBias, Given, IdentityMatrix, Learnable, Orthogonal, Random, Recurrence, TorchUniform

PEERS = [
    (Elman(), torch.nn.RNN, {}),
    (Elman(Relu()), torch.nn.RNN, {"nonlinearity": "relu"}),
    (GRU(), torch.nn.GRU, {}),
    (LSTM(), torch.nn.LSTM, {}),
]


def pair(cell, peer, options, *, seed=1, bias=True, layers=3):
    torch.manual_seed(seed)
    theirs = peer(4, 6, layers, bias=bias, **options)
    torch.manual_seed(seed)
    return Recurrence(cell, 4, 6, num_layers=layers, bias=bias), theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("cell", "peer", "options"), PEERS)
def test_the_same_seed_gives_torchs_names_and_weights(cell, peer, options, bias):
    mine, theirs = pair(cell, peer, options, bias=bias)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    mine.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize(("T", "B"), [(1, 1), (5, 3)])
@pytest.mark.parametrize(("cell", "peer", "options"), PEERS)
def test_three_layers_agree_with_torch(cell, peer, options, T, B):
    mine, theirs = pair(cell, peer, options)
    xs = torch.randn(T, B, 4, requires_grad=True)
    state = tuple(torch.randn(3, B, 6, requires_grad=True) for _ in range(cell.states))
    hs, last = mine(xs, state)
    out, end = theirs(xs, state if len(state) > 1 else state[0])
    end = end if isinstance(end, tuple) else (end,)
    weights = [torch.randn_like(y) for y in (hs, *last)]
    assert_close([hs, *last], [out, *end])
    wanted = gradients([out, *end], weights, [xs, *state, *theirs.parameters()])
    assert_close(gradients([hs, *last], weights, [xs, *state, *mine.parameters()]), wanted)


def test_dropout_stands_between_layers_in_training_only():
    stack = Recurrence(GRU(), 4, 6, num_layers=2, dropout=0.5)
    xs = torch.randn(5, 3, 4)
    assert not torch.equal(stack(xs)[0], stack(xs)[0])
    stack.eval()
    assert torch.equal(stack(xs)[0], stack(xs)[0])
    single = Recurrence(GRU(), 4, 6, dropout=0.5)
    assert torch.equal(single(xs)[0], single(xs)[0])


@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_initial_states(cell):
    shape = (cell.states, 2, 3, 6)
    make = lambda rule: Recurrence(cell, 4, 6, num_layers=2, initial=rule)
    stacked = lambda stack: torch.stack(stack.initial_state(3))
    assert torch.equal(stacked(make(nn.Zeros())), torch.zeros(shape))
    values = torch.randn(cell.states, 2, 6)
    assert torch.equal(stacked(make(Given(values))), values.unsqueeze(2).expand(shape))
    random = make(Random(2.0))
    assert not torch.equal(stacked(random), stacked(random))
    many = torch.stack(random.initial_state(4000))
    assert abs(float(many.std()) - 2) < 0.05
    assert abs(float(many.mean())) < 5 * 2 / many.numel() ** 0.5  # five standard errors
    learnable = make(Learnable())
    stacked(learnable).sum().backward()
    assert torch.equal(learnable.initial.grad, torch.full((cell.states, 2, 6), 3.0))
    with pytest.raises(ValueError, match=r"Given\(states\) has shape \(1, 6\); expected"):
        make(Given(torch.zeros(1, 6))).initial_state(3)


def test_orthogonal_and_identity():
    stack = Recurrence(LSTM(), 4, 6, num_layers=2, initialisers=(TorchUniform(), Orthogonal(1.5)))
    for layer in range(2):
        for R in stack.parameters_of(layer).R:
            assert_close([R.T @ R], [2.25 * torch.eye(6)])
    irnn = Recurrence(Elman(Relu()), 4, 6, initialisers=(TorchUniform(), IdentityMatrix(0.5)))
    p = irnn.parameters_of(0)
    assert torch.equal(p.R[0], 0.5 * torch.eye(6))
    assert not p.b_ih.any()
    assert not p.b_hh.any()
    assert p.W.any()


def test_memory_gates_of_a_cell_without_R():
    p = Recurrence(zoo.MinLSTM(), 4, 6, initialisers=(TorchUniform(), ForgetBias(1.5), Chrono(100))).parameters_of(0)
    assert bool((p.b_ih[0] == -p.b_ih[1]).all() and (p.b_ih[0] >= 0).all())


@pytest.mark.parametrize(("cell", "gate"), [(LSTM(), 1), (GRU(), 1)])
def test_forget_bias_is_the_sum_of_both_halves_and_touches_one_gate(cell, gate):
    torch.manual_seed(0)
    plain = Recurrence(cell, 4, 6)
    torch.manual_seed(0)
    p = Recurrence(cell, 4, 6, initialisers=(TorchUniform(), ForgetBias(1.5))).parameters_of(0)
    q = plain.parameters_of(0)
    assert torch.equal((p.b_ih + p.b_hh)[gate], torch.full((6,), 1.5))
    others = [g for g in range(cell.gates) if g != gate]
    assert torch.equal(p.b_ih[others], q.b_ih[others])


def test_chrono_spreads_the_memory_over_the_lags():
    stack = Recurrence(LSTM(), 2, 2000, initialisers=(TorchUniform(), Chrono(100)))
    p = [v.detach() for v in stack.parameters()]
    bias = (p[2] + p[3]).view(4, -1)
    forget = bias[1]
    assert float(forget.max()) <= math.log(99)
    assert abs(float(forget.exp().mean()) - 50) < 2  # U(1, 99)
    assert torch.equal(bias[0], -forget)


@pytest.mark.parametrize("cell", [Elman(), GRU(), LSTM()], ids=str)
def test_lean_memory_changes_no_number_and_keeps_less(cell):
    fast, lean = (Recurrence(cell, 4, 6, num_layers=2, memory=memory) for memory in ("fast", "lean"))
    lean.load_state_dict(fast.state_dict())
    xs, weights = torch.randn(300, 3, 4, requires_grad=True), torch.randn(300, 3, 6)
    kept = []
    for stack in (fast, lean):
        hs, _ = stack(xs)
        kept.append(sum(t.numel() for t in hs.grad_fn.saved_tensors if t is not None))
        (hs * weights).sum().backward()
    assert_close([p.grad for p in lean.parameters()], [p.grad for p in fast.parameters()])
    assert cell == Elman() or kept[1] < 0.5 * kept[0]


def test_bad_sizes_shapes_and_pairs_get_a_sentence(shapes_unchecked):
    with pytest.raises(ValueError, match="hidden_size is 0; expected an integer from 1"):
        Recurrence(GRU(), 4, 0)
    with pytest.raises(ValueError, match=r"dropout is 1.0; expected a number in \[0, 1\)"):
        Recurrence(GRU(), 4, 6, dropout=1.0)
    with pytest.raises(NotImplementedError, match=r"ForgetBias\(value=1.0\) needs a cell with a gate.*Orthogonal\(\)"):
        Recurrence(Elman(), 4, 6, initialisers=(TorchUniform(), ForgetBias()))
    with pytest.raises(ValueError, match="longest is 2; expected a finite number of at least 3"):
        Recurrence(LSTM(), 4, 6, initialisers=(TorchUniform(), Chrono(2)))
    with pytest.raises(ValueError, match="memory is 'small'; expected 'fast' or 'lean'"):
        Recurrence(GRU(), 4, 6, memory="small")
    stack = Recurrence(GRU(), 4, 6)
    with pytest.raises(ValueError, match=r"xs has shape \(5, 3, 7\); expected \(T, B, 4\)"):
        stack(torch.zeros(5, 3, 7))
    with pytest.raises(ValueError, match=r"T and B at least 1"):
        stack(torch.zeros(0, 3, 4))
    with pytest.raises(ValueError, match=r"carried state has shapes \[\(1, 2, 6\)\] but the batch has B = 3"):
        stack(torch.zeros(5, 3, 4), stack.initial_state(2))
