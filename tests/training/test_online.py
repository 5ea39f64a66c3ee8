"""One step at a time: the same as calls of T = 1, in memory that does not grow."""

import gc

import pytest
import torch
from _past import B, I, cut, language_model, text, vector_model, vectors
from _tables import first
from _truth import assert_close

import throughtime as tt
from throughtime.cells import GRU, LSTM
from throughtime.gradients import RTRL, UORO, BlockRTRL, EProp, FullBPTT, SnAp, TruncatedBPTT
from throughtime.training import ClipNorm, step

METHODS = [FullBPTT(), TruncatedBPTT(1, 4), RTRL(), BlockRTRL(3), SnAp(1), UORO(2), EProp()]


def twins(kind):
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(vector_model(LSTM()) if kind == "vectors" else language_model(GRU()))
    return models, vectors(9) if kind == "vectors" else text(9)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("kind", ["vectors", "indices"])
def test_learning_is_one_call_and_one_step_of_the_optimiser(method, kind):
    (one, two), batch = twins(kind)
    fresh = torch.tensor([False, True, False, True])
    learner = tt.OnlineLearner(one, method, torch.optim.Adam(one.parameters(), 1e-2), clips=(ClipNorm(1.0),))
    optimiser, carry = torch.optim.Adam(two.parameters(), 1e-2), None
    for t, now in enumerate(cut(batch, range(10), fresh={4: fresh})):
        loss = learner.learn(batch.inputs[t], batch.targets[t], fresh=fresh if t == 4 else None)
        wanted, _, _, carry = step(two, now, carry, gradient=method, clips=(ClipNorm(1.0),), optimizer=optimiser)
        assert loss == wanted
    assert all(map(torch.equal, one.parameters(), two.parameters()))


def test_predicting_changes_nothing_and_is_what_learning_scores():
    (model, _), batch = twins("vectors")
    learner = tt.OnlineLearner(model, RTRL(), torch.optim.SGD(model.parameters(), 1e-2))
    for x, y in zip(batch.inputs, batch.targets, strict=True):
        first, carry = learner.predict(x), learner.carry
        assert learner.predict(x).equal(first)
        assert learner.carry is carry
        assert model.training
        # a few float32 roundings (6e-8)
        assert_close([torch.tensor(learner.learn(x, y))], [(first - y).square().sum()], 1e-6)


@pytest.mark.parametrize("method", first([TruncatedBPTT(1, 4)], METHODS), ids=str)
@pytest.mark.slow
def test_memory_does_not_grow(method):
    model = vector_model(LSTM())
    learner = tt.OnlineLearner(model, method, torch.optim.SGD(model.parameters(), 1e-3))

    def after(steps):
        for _ in range(steps):
            learner.learn(torch.randn(B, I), torch.randn(B, 2))
        gc.collect()
        return sum(t.numel() for t in gc.get_objects() if issubclass(type(t), torch.Tensor))

    assert after(8) == after(40)


def test_bad_steps_get_a_sentence():
    (model, _), batch = twins("vectors")
    learner = tt.OnlineLearner(model, UORO(), torch.optim.SGD(model.parameters(), 1e-2))
    learner.learn(batch.inputs[0], batch.targets[0])
    with pytest.raises(tt.InputError, match="batch has B = 2"):
        learner.learn(batch.inputs[1, :2], batch.targets[1, :2])
    with pytest.raises(tt.InputError, match="B = 2"):
        learner.predict(batch.inputs[1, :2])
    kept = learner.carry
    with pytest.raises(tt.NonFinite):
        learner.learn(batch.inputs[1], batch.targets[1] * torch.inf)
    assert learner.carry is kept
