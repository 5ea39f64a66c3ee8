"""Softmax and cross-entropy of rows against torch, in value and gradient."""

import pytest
import torch

from throughtime import _kernels


@pytest.mark.parametrize("arch", _kernels.architectures())
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("N", "V"), [(1, 1), (3, 2), (5, 17), (7, 65), (40, 3001)])
def test_rows_against_torch(N, V, dtype, threads, arch):
    generator = torch.Generator().manual_seed(N)
    logits = (3 * torch.randn(N, V, generator=generator, dtype=torch.float64) + 50).requires_grad_()
    targets = torch.randint(0, V, (N,), generator=generator)
    g = torch.randn(N, generator=generator, dtype=torch.float64)
    truth = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    truth.backward(g)
    tolerance = 4 * torch.finfo(dtype).eps * (64 if dtype == torch.float32 else 50)  # the logits themselves are rounded, near 60
    for gradient in (False, True):
        o, losses = logits.detach().to(dtype, copy=True), torch.empty(N, dtype=dtype)
        _kernels.cross_entropy((o, targets, g.to(dtype), losses, gradient, threads, arch))
        torch.testing.assert_close(losses.double(), truth.detach(), rtol=tolerance, atol=tolerance)
        want = logits.grad if gradient else logits.detach()
        torch.testing.assert_close(o.double(), want, rtol=tolerance, atol=tolerance)


def test_extreme_logits():
    o = torch.tensor([[1e30, 0.0, -1e30], [-torch.inf, 0.0, 0.0]])
    losses = torch.empty(2)
    _kernels.cross_entropy((o, torch.tensor([0, 1]), None, losses, True, 1, None))
    torch.testing.assert_close(losses, torch.tensor([0.0, 2.0]).log1p().where(torch.tensor([True, False]), torch.tensor(2.0).log()))
    torch.testing.assert_close(o, torch.tensor([[0.0, 0.0, 0.0], [0.0, -0.5, 0.5]]))


@pytest.mark.parametrize("target", [-1, 3])
def test_a_target_outside_the_vocabulary(target):
    with pytest.raises(ValueError, match=rf"targets\[1\] is {target}; expected 0 to V - 1 = 2"):
        _kernels.cross_entropy((torch.zeros(2, 3), torch.tensor([0, target]), None, torch.empty(2), True, 1, None))
