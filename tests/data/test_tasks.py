"""The synthetic tasks against their definitions, stream by stream."""

import pytest
import torch

from throughtime import data


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("T", [2, 3, 50])
def test_adding(T):
    task = data.adding(T, 200, chance())
    assert (task.T, task.B, task.counted()) == (T, 200, 200)
    values, marks = task.inputs.unbind(2)
    for b in range(200):
        first, second = marks[:, b].nonzero().flatten().tolist()
        assert first < T // 2 <= second
        assert task.targets[-1, b, 0] == values[first, b] + values[second, b]
    if T == 50:
        error = (data.adding(T, 20_000, chance()).targets[-1] - 1).square().mean()
        assert error == pytest.approx(1 / 6, abs=0.005)  # sd of the mean: 0.0012
        assert {int(m.nonzero()[0]) for m in marks.T} == set(range(25))


@pytest.mark.parametrize("T", [1, 5, 40])
def test_delayed_addition(T):
    task = data.delayed_addition(T, 3, chance(), lags=(2, 5))
    x = task.inputs[:, :, 0]
    for t in range(T):
        wanted = 0.5 + 0.5 * (x[t - 2] if t >= 2 else 0) - 0.25 * (x[t - 5] if t >= 5 else 0) * torch.ones(3)
        assert torch.equal(task.targets[t, :, 0], wanted)
    assert set(x.flatten().tolist()) <= {0.0, 1.0}


def test_copying():
    task = data.copying(4, 50, chance(), size=3, symbols=2)
    word = task.inputs[:3]
    assert set(word.flatten().tolist()) == {1, 2}
    assert task.inputs[3:].T.tolist() == [[0, 0, 0, 3, 0, 0, 0]] * 50
    assert not task.targets[:7].any()
    assert torch.equal(task.targets[7:], word)
    assert task.T == 10


@pytest.mark.parametrize("T", [10, 19, 57])
def test_temporal_order(T):
    task, n = data.temporal_order(T, 400, chance()), T // 10
    for b in range(400):
        early, late = (task.inputs[:, b] < 2).nonzero().flatten().tolist()
        assert n <= early < 2 * n
        assert 5 * n <= late < 6 * n
        assert task.targets[-1, b] == task.inputs[early, b] + 2 * task.inputs[late, b]
    assert set(task.inputs.flatten().tolist()) == set(range(6))
    assert set(task.targets[-1].tolist()) == set(range(4))
    assert task.weights is not None
    assert task.weights.sum(0).tolist() == [1] * 400
    assert task.counted() == 400


def test_the_same_generator_the_same_task():
    for task in (data.adding, data.delayed_addition, data.copying, data.temporal_order):
        one, same, other = (task(30, 5, chance(seed)) for seed in (1, 1, 2))
        assert torch.equal(one.inputs, same.inputs)
        assert not torch.equal(one.inputs, other.inputs)


def test_sizes_that_have_no_task():
    with pytest.raises(ValueError, match=r"length is 1; expected at least 2.*Make it longer"):
        data.adding(1, 3, chance())
    with pytest.raises(ValueError, match="length is 9; expected at least 10"):
        data.temporal_order(9, 3, chance())
    with pytest.raises(ValueError, match="delay is 0; expected an integer from 1"):
        data.copying(0, 3, chance())
    with pytest.raises(ValueError, match="batch is 0"):
        data.delayed_addition(5, 0, chance())
    with pytest.raises(ValueError, match=r"a lag is 0.*Lags are in steps"):
        data.delayed_addition(5, 1, chance(), lags=(0, 3))
