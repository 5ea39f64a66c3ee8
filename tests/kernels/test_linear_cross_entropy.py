"""The head, softmax and cross-entropy in one, against torch's own three, whole and in chunks."""

import pytest
import torch
from _truth import assert_close, gradients
from torch.utils._python_dispatch import TorchDispatchMode

from throughtime.kernels import _cross_entropy, _fast, linear_cross_entropy


@pytest.fixture(autouse=True)
def _float64(_default_float32):
    torch.set_default_dtype(torch.float64)


@pytest.mark.parametrize("extension", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("N", "H", "V"), [(1, 1, 2), (7, 5, 9), (130, 3, 17)])
def test_agrees_with_torch(monkeypatch, N, H, V, bias, chunked, extension):
    if not extension:
        monkeypatch.setattr(_fast, "has_cross_entropy", lambda o: False)
    if chunked:
        monkeypatch.setattr(_cross_entropy, "_KEPT", 0)
        monkeypatch.setattr(_cross_entropy, "_CHUNK", 40 * V)
    hs, weight = torch.randn(N, H, requires_grad=True), torch.randn(V, H, requires_grad=True)
    c = torch.randn(V, requires_grad=True) if bias else None
    targets, g = torch.randint(V, (N,)), torch.randn(N)
    inputs = [hs, weight, *([] if c is None else [c])]
    got = linear_cross_entropy(hs, weight, c, targets)
    wanted = torch.nn.functional.cross_entropy(torch.nn.functional.linear(hs, weight, c), targets, reduction="none")
    assert_close([got, *gradients([got], [g], inputs)], [wanted, *gradients([wanted], [g], inputs)])


def test_logits_that_overflow_an_exponential():
    hs = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    losses = linear_cross_entropy(hs, weight, None, torch.tensor([0, 0]))
    assert losses.tolist() == [0.0, 2000.0]
    losses.sum().backward()
    assert hs.grad.tolist() == [[0.0], [-2.0]]


class Largest(TorchDispatchMode):
    """Remembers the most numbers that any operation's result had."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numbers = max(self.numbers, out.numel())
        return out


def test_the_logits_of_a_large_vocabulary_are_never_all_there():
    N, H, V = 3000, 2, 2000
    hs, weight = torch.randn(N, H, requires_grad=True), torch.randn(V, H, requires_grad=True)
    with Largest() as largest:
        linear_cross_entropy(hs, weight, None, torch.randint(V, (N,))).sum().backward()
    assert N * V > _cross_entropy._KEPT
    assert largest.numbers <= _cross_entropy._CHUNK
