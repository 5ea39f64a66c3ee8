"""A linear head, softmax and cross-entropy in one, with the gradient by hand; the logits of a large vocabulary are never all there.

    o = V h + c                 (1)     N rows, a chunk of them at a time
    ℓ = ln Σ_k e^{o_k} − o_y    (2)     = −ln softmax(o)_y
    do = (softmax(o) − e_y) g   (3)     g = ∂L/∂ℓ of the row
    dV = Σ do ⊗ h   (4)         dc = Σ do   (5)         dh = Vᵀ do  (6)

N rows (T·B) · H hidden · V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _fast
from ._choice import get_threads

_KEPT = 1 << 22  # numbers: logits up to this many are kept for backward, more are computed again
_CHUNK = 1 << 20  # numbers of a chunk's logits: what stays in the second cache while it is worked on


def linear_cross_entropy(hs: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Every row's cross-entropy in nats, differentiable once.

    Args:
        hs: (N, H) rows.
        weight: (V, H).
        bias: (V,) or None.
        targets: (N,) indices in [0, V).

    Returns:
        (N,) losses.
    """
    return _LinearCrossEntropy.apply(hs, weight, bias, targets)  # type: ignore[return-value]


def logits_memory(N: int, V: int) -> int:
    """How many numbers of logits and of their gradient there are at once, in all of forward and backward."""
    return 2 * N * V if N * V <= _KEPT else _chunks(N, V)[0].stop * V


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hs: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        N, V = hs.shape[0], weight.shape[0]
        keep = any(ctx.needs_input_grad) and N * V <= _KEPT
        if keep:
            o = _logits(hs, weight, bias)  # (1)
            losses = softmax_cross_entropy(o, targets, None, gradient=True)  # (2), and (3) but for g
        else:
            o, losses = None, hs.new_empty(N)
            for rows in _chunks(N, V):
                losses[rows] = softmax_cross_entropy(_logits(hs[rows], weight, bias), targets[rows], None, gradient=False)  # (1), (2)
        ctx.save_for_backward(hs, weight, bias, targets, o)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (g,) = gradients
        hs, weight, bias, targets, kept = ctx.saved_tensors
        if kept is not None:
            do = kept * g.unsqueeze(1)  # (3)
            return do @ weight, do.T @ hs, None if bias is None else do.sum(0), None  # (6), (4), (5)
        dhs, dweight, dbias = torch.empty_like(hs), torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias)
        for rows in _chunks(hs.shape[0], weight.shape[0]):
            do = _logits(hs[rows], weight, bias)
            softmax_cross_entropy(do, targets[rows], g[rows], gradient=True)  # (3)
            dweight.addmm_(do.T, hs[rows])  # (4)
            if dbias is not None:
                dbias += do.sum(0)  # (5)
            torch.mm(do, weight, out=dhs[rows])  # (6)
        return dhs, dweight, dbias, None


def softmax_cross_entropy(o: Tensor, targets: Tensor, g: Tensor | None, *, gradient: bool) -> Tensor:
    """(N,) losses of the logits ``o`` (N, V), (2); with ``gradient`` the logits become ``do``, (3), ones standing for ``g`` None."""
    if _fast.has_cross_entropy(o):
        return _fast.cross_entropy(o, targets, g, gradient=gradient, threads=get_threads())
    at, log_sums = targets.unsqueeze(1), o.logsumexp(1, keepdim=True)
    losses = (log_sums - o.gather(1, at)).squeeze(1)  # (2)
    if gradient:
        o.sub_(log_sums).exp_().scatter_add_(1, at, o.new_full((1, 1), -1.0).expand_as(at))
        if g is not None:
            o.mul_(g.unsqueeze(1))  # (3)
    return losses


def _chunks(N: int, V: int) -> list[slice]:
    size = max(32, _CHUNK // V)
    return [slice(start, min(start + size, N)) for start in range(0, N, size)]


def _logits(hs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return hs @ weight.T if bias is None else torch.addmm(bias, hs, weight.T)
