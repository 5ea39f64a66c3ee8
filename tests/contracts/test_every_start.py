"""Every rule for first states and first weights: it sets what it speaks of, as it says, and leaves the rest."""

import pytest
import torch
from _starts import STARTS, initials

from throughtime.cells import GRU, LSTM
from throughtime.kernels import Parameters
from throughtime.nn import Bidirectional, Learnable, Orthogonal, Recurrence

I, H, L = 3, 5, 2
UNSET = 7.0


@pytest.mark.parametrize("cell", [GRU(), LSTM()], ids=str)
@pytest.mark.parametrize("rule", range(len(initials(1, 1, 1))), ids=lambda n: type(initials(1, 1, 1)[n]).__name__)
def test_states_have_the_shape_and_type_of_the_stack_and_a_gradient_where_they_are_learnt(cell, rule):
    initial = initials(cell.states, L, H)[rule]
    stack = Recurrence(cell, I, H, num_layers=L, initial=initial).float()
    state = stack.initial_state(4)
    assert [(s.shape, s.dtype) for s in state] == [((L, 4, H), torch.float32)] * cell.states
    assert all(s.requires_grad == isinstance(initial, Learnable) for s in state)
    assert ("initial" in dict(stack.named_parameters())) == initial.learnable == isinstance(initial, Learnable)


@pytest.mark.parametrize(("row", "cell"), [(row, cell) for row in STARTS for cell in row.cells], ids=lambda x: str(getattr(x, "rule", x)))
def test_weights_that_a_rule_does_not_speak_of_are_left(row, cell):
    G = cell.gates
    layers = [Parameters(*(torch.full((G, H, *rest), UNSET) for rest in ((I,), (H,), (), ()))) for _ in range(L)]
    row.rule(cell, layers)
    memory = (
        [g for g in (cell.memory_gate, cell.input_gate) if g is not None] if type(row.rule).__name__ == "Chrono" else [cell.memory_gate]
    )
    for W, R, b_ih, b_hh in layers:
        assert bool((W != UNSET).all()) == row.W == bool((W != UNSET).any())
        assert bool((R != UNSET).all()) == row.R == bool((R != UNSET).any())
        for b in (b_ih, b_hh):
            wanted = [row.biases or (row.memory_biases and g in memory) for g in range(G)]
            assert [bool((b[g] != UNSET).all()) for g in range(G)] == wanted == [bool((b[g] != UNSET).any()) for g in range(G)]


@pytest.mark.parametrize("stack", [Recurrence, Bidirectional], ids=lambda stack: stack.__name__)
@pytest.mark.parametrize("rules", [(), [Orthogonal()]], ids=["no rule", "a rule for R alone"])
def test_what_no_rule_speaks_of_is_torchs_and_not_what_memory_held(stack, rules):
    torch.manual_seed(0)
    found = dict(stack(LSTM(), I, H, num_layers=L, initialisers=rules).named_parameters())
    torch.manual_seed(0)
    torchs = dict(stack(LSTM(), I, H, num_layers=L).named_parameters())
    for name, p in found.items():
        assert p.abs().max() <= 1  # an orthogonal matrix has no larger entry, and torch's are below 1/√H
        assert torch.equal(p, torchs[name]) == (not rules or "weight_hh" not in name)
