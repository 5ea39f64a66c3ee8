"""The truth that everything is compared with: the loop unrolled by hand, differentiated by torch's autograd."""

from collections.abc import Sequence

import torch
from _rounding import assert_close as assert_close, relative as relative, rounding as rounding
from torch import Tensor

from throughtime.cells import AbstractCell
from throughtime.kernels import Parameters, Traversal


def unrolled(cell: AbstractCell, xs: Tensor, state: Sequence[Tensor], parameters: Parameters, walk: Traversal = Traversal()):  # noqa: B008
    """hs (T, B, H) and the last state, as a graph of T steps, one sequence after another."""
    rows = [_one(cell, xs[:, b], [s[b] for s in state], parameters, walk, b) for b in range(xs.shape[1])]
    hs = torch.stack([r[0] for r in rows], 1)
    return hs, tuple(torch.stack(parts) for parts in zip(*(r[1] for r in rows), strict=True))


def _one(cell, xs, state, parameters, walk, b):
    W, R, b_ih, b_hh = parameters
    T = len(xs) if walk.lengths is None else int(walk.lengths[b])
    hs = [torch.zeros_like(state[0])] * len(xs)
    state = tuple(s.unsqueeze(0) for s in state)
    for t in reversed(range(T)) if walk.reverse else range(T):
        if walk.reset is not None and walk.reset[t, b]:
            restart = walk.restart or [torch.zeros_like(s[0]).expand(xs.shape[0], -1) for s in state]
            state = tuple(s[b].unsqueeze(0) if walk.restart else torch.zeros_like(state[0]) for s in restart)
        wx = torch.stack([w @ xs[t] for w in W]) + (0 if b_ih is None else b_ih)
        rh = torch.stack([r @ state[0][0] for r in R]) + (0 if b_hh is None else b_hh)
        state = cell.step(wx.unsqueeze(0), rh.unsqueeze(0), state)
        hs[t] = state[0][0]
    return torch.stack(hs), [s[0] for s in state]


def gradients(outputs: Sequence[Tensor], cotangents: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """∂⟨outputs, cotangents⟩/∂inputs, zeros where nothing reaches."""
    total = sum((y * v).sum() for y, v in zip(outputs, cotangents, strict=True))
    found = torch.autograd.grad(total, inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]
