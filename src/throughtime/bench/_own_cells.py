"""A cell of one's own, forward and backward, beside the loop that its owner would write in torch, and JAX."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from torch import Tensor, nn

from ..cells import zoo
from ..nn import Recurrence
from ._contest import Timed, contest, timed
from ._jax import STEPS, Jax, installed
from ._layers import Sizes, arrays, both_passes
from ._row import OURS, Row, Spread

SIZES = [(1000, 1, 32, 64), (100, 32, 128, 128)]  # T, B, I, H


def rows(threads: int, seconds: float) -> Iterator[Row]:
    """A row a size. Compiling, at the first use ever, is not in it."""
    for sizes in SIZES:
        T, B, I, H = sizes
        yield Row("own-cells", f"MGU, T {T}, B {B}, I {I}, H {H}", "ms", _found(sizes, threads, seconds))


def _found(sizes: Sizes, threads: int, seconds: float) -> dict[str, Spread]:
    given = arrays(2, sizes)
    layers: dict[str, nn.Module] = {OURS: Recurrence(zoo.MGU(), *sizes[2:]), "torch loop": LoopByHand(*sizes[2:])}
    contestants: dict[str, Timed] = {name: timed(both_passes(layer, given)) for name, layer in layers.items()}
    with ExitStack() as stack:
        if installed():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            jax = Jax(STEPS["mgu"], {name: value.numpy() for name, value in given.items()}, threads, folder)
            contestants["JAX"] = stack.enter_context(closing(jax)).seconds
        return contest(contestants, seconds, scale=1e3)


class LoopByHand(nn.Module):
    """The minimal gated unit as a careful user writes it: the inputs' product once for all steps, one product a step."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.W, self.R = nn.Linear(inputs, 2 * hidden), nn.Linear(hidden, 2 * hidden)

    def forward(self, xs: Tensor) -> tuple[Tensor, Tensor]:
        h, hs = xs.new_zeros(xs.shape[1], self.R.in_features), []
        for wx in self.W(xs):
            (a, c), (b, d) = wx.chunk(2, -1), self.R(h).chunk(2, -1)
            f = torch.sigmoid(a + b)
            h = torch.lerp(h, torch.tanh(c + f * d), f)
            hs.append(h)
        return torch.stack(hs), h
