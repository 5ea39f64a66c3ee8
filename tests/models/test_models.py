"""Stations: inputs, heads, losses; and the language model that samples."""

import pytest
import torch
from _truth import assert_close, gradients

from throughtime import LanguageModel, SequenceModel
from throughtime.cells import GRU, LSTM
from throughtime.data import Batch
from throughtime.models import (
    BinaryCrossEntropy,
    CrossEntropy,
    Embedding,
    Head,
    Linear,
    OneHot,
    SigmoidOutput,
    Softmax,
    SquaredError,
    Vectors,
)
from throughtime.nn import Recurrence

T, B, V, H = 4, 3, 6, 5


def head_losses(output, loss, targets):
    head = Head(H, V, output=output, loss=loss)
    hs = torch.randn(T, B, H, requires_grad=True)
    return head, hs, head.losses(hs, targets)


def test_the_stable_pairs_equal_the_plain_formula_in_value_and_gradient():
    """log-softmax and logits are only a better way to compute −Σ y ln f(o)."""
    indices, distribution = torch.randint(V, (T, B)), torch.softmax(torch.randn(T, B, V), -1)
    bits = torch.rand(T, B, V).round()
    pairs = [
        (Softmax(), CrossEntropy(), indices, lambda p: -p.gather(2, indices.unsqueeze(2)).squeeze(2).log()),
        (Softmax(), CrossEntropy(), distribution, lambda p: -(distribution * p.log()).sum(-1)),
        (SigmoidOutput(), BinaryCrossEntropy(), bits, lambda p: -(bits * p.log() + (1 - bits) * (1 - p).log()).sum(-1)),
        (Linear(), SquaredError(0.5), distribution, lambda p: 0.5 * (distribution - p).square().sum(-1)),
    ]
    for output, loss, targets, formula in pairs:
        head, hs, losses = head_losses(output, loss, targets)
        truth = formula(output(head(hs)))
        weights = torch.randn(T, B)
        inputs = [hs, *head.parameters()]
        assert_close([losses, *gradients([losses], [weights], inputs)], [truth, *gradients([truth], [weights], inputs)])


def test_any_output_function_of_the_whole_vector():
    """Not elementwise, so the loss's gradient needs the full Jacobian ∂ŷ_k/∂o_i."""
    mix = lambda o: torch.tanh(o.cumsum(-1)) * o.roll(1, -1)
    targets = torch.randn(T, B, V)
    head, hs, losses = head_losses(mix, SquaredError(), targets)
    o = head(hs).detach()
    J = torch.func.vmap(torch.func.vmap(torch.func.jacrev(mix)))(o)  # (T, B, V, V)
    do = torch.einsum("tbk,tbki->tbi", -2 * (targets - mix(o)), J)
    (dhs,) = gradients([losses], [torch.ones(T, B)], [hs])
    assert_close([dhs], [do @ head.weight])


def test_general_outputs_with_cross_entropy():
    renormalised = lambda o: o.square() / o.square().sum(-1, keepdim=True)
    for targets in (torch.randint(V, (T, B)), torch.softmax(torch.randn(T, B, V), -1)):
        head, hs, losses = head_losses(renormalised, CrossEntropy(), targets)
        y = torch.nn.functional.one_hot(targets, V).double() if targets.ndim == 2 else targets
        assert_close([losses], [-(y * renormalised(head(hs)).log()).sum(-1)])


def test_indices_one_hot_and_distributions_come_in():
    table, one_hot = Embedding(V, 4), OneHot(V)
    indices = torch.randint(V, (T, B))
    p = torch.nn.functional.one_hot(indices, V).double()
    assert torch.equal(one_hot(indices), p)
    assert torch.equal(one_hot(p), p)
    assert_close([table(p)], [table(indices)])
    assert_close([table(0.5 * p + 0.5 * p.roll(1, -1))], [0.5 * table(indices) + 0.5 * table((indices + 1) % V)])


def test_one_hot_follows_the_models_type():
    model = LanguageModel(V, hidden_size=H, embedding_size=0).float()
    assert model.embed(Batch(torch.zeros(T, B, dtype=torch.long), torch.zeros(T, B, dtype=torch.long))).dtype == torch.float32


def test_tied_weights_are_one_parameter():
    model = LanguageModel(V, hidden_size=H, tied=True)
    assert model.head.weight is model.input.weight
    assert len(list(model.parameters())) == len(list(LanguageModel(V, hidden_size=H).parameters())) - 1
    with pytest.raises(ValueError, match="tied weights need an embedding as wide as the hidden state; got 3 and 5"):
        LanguageModel(V, hidden_size=H, embedding_size=3, tied=True)
    with pytest.raises(ValueError, match="tied is set with one-hot inputs"):
        LanguageModel(V, hidden_size=H, embedding_size=0, tied=True)


@pytest.mark.parametrize("cell", [GRU(), LSTM()], ids=str)
def test_sampling(cell):
    model = LanguageModel(V, cell=cell, hidden_size=H)
    draw = lambda seed, **options: list(model.sample([1, 2, 3], 60, generator=torch.Generator().manual_seed(seed), **options))
    assert draw(1) == draw(1) != draw(2)
    assert draw(1, temperature=0.0) == draw(2, temperature=0.0) == draw(3, top_k=1)
    assert len(set(draw(1, temperature=100.0))) == V
    assert model.training
    with pytest.raises(ValueError, match="the prompt is empty"):
        model.sample([], 3)
    with pytest.raises(ValueError, match="inputs has indices from 9 to 9; expected 0 to 5"):
        list(model.sample([9], 3))


@pytest.mark.slow
def test_sampling_draws_from_the_models_own_distribution():
    """The first symbol after a prompt, often drawn, against softmax(o / temperature) kept to the k likeliest."""
    model = LanguageModel(V, hidden_size=H)
    hs, _ = model.recurrence(model.input(torch.tensor([[1], [4]])))
    o = model.head(hs[-1, 0]) / 0.5
    p = torch.softmax(o.where(o >= o.topk(3).values[-1], -torch.inf), 0).detach()
    g = torch.Generator().manual_seed(0)
    drawn = torch.tensor([next(model.sample([1, 4], 1, temperature=0.5, top_k=3, generator=g)) for _ in range(2000)])
    assert (torch.bincount(drawn, minlength=V) / 2000 - p).abs().max() < 0.04  # 3.6 standard deviations of the widest


def test_the_state_is_carried_while_sampling():
    """Greedy sampling one symbol at a time is greedy sampling of the whole prefix."""
    model = LanguageModel(V, hidden_size=H)
    prefix = [2]
    for symbol in model.sample([2], 20, temperature=0.0):
        hs, _ = model.recurrence(model.input(torch.tensor(prefix).unsqueeze(1)))
        assert symbol == int(model.head(hs[-1, 0]).argmax())
        prefix.append(symbol)


def test_bad_shapes_get_a_sentence(shapes_unchecked):
    with pytest.raises(ValueError, match=r"the stations do not fit: the input gives vectors of 3 and the recurrence takes 4"):
        SequenceModel(Vectors(3), Recurrence(GRU(), 4, H), Head(H, V))
    with pytest.raises(ValueError, match=r"inputs have shape \(4, 3\) and targets \(5, 3\)"):
        Batch(torch.zeros(4, 3, dtype=torch.long), torch.zeros(5, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"mask has shape \(3, 4\); expected \(T, B\) = \(4, 3\)"):
        Batch(torch.zeros(4, 3), torch.zeros(4, 3), mask=torch.ones(3, 4, dtype=torch.bool))
    head = Head(H, V)
    with pytest.raises(ValueError, match="targets has indices from 0 to 6; expected 0 to 5"):
        head.losses(torch.randn(1, 2, H), torch.tensor([[0, 6]]))
    with pytest.raises(ValueError, match=r"targets have shape \(1, 2, 3\); expected a distribution of the head's shape"):
        head.losses(torch.randn(1, 2, H), torch.rand(1, 2, 3))
    with pytest.raises(ValueError, match=r"inputs have shape \(4, 3, 2\); expected indices"):
        Embedding(V, 2)(torch.rand(4, 3, 2))
