"""One recurrent layer, forward and backward, as a user of PyTorch calls it: this package's, torch.nn's, and JAX."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from torch import Tensor, nn

from ..nn import GRU, LSTM, RNN
from ._contest import Call, Timed, contest, timed
from ._jax import STEPS, Jax, installed
from ._row import OURS, Row, Spread

CELLS = {"rnn": (RNN, nn.RNN, 1), "gru": (GRU, nn.GRU, 3), "lstm": (LSTM, nn.LSTM, 4)}
SIZES = [(1000, 1, 32, 64), (100, 32, 128, 128), (100, 32, 256, 256)]  # T, B, I, H

Sizes = tuple[int, int, int, int]


def rows(threads: int, seconds: float) -> Iterator[Row]:
    """A row a cell and size."""
    for cell in CELLS:
        for sizes in SIZES:
            T, B, I, H = sizes
            yield Row("layers", f"{cell.upper()}, T {T}, B {B}, I {I}, H {H}", "ms", _found(cell, sizes, threads, seconds))


def _found(cell: str, sizes: Sizes, threads: int, seconds: float) -> dict[str, Spread]:
    given = arrays(CELLS[cell][2], sizes)
    ours, theirs, _ = CELLS[cell]
    layers: dict[str, nn.Module] = {OURS: ours(*sizes[2:]), "torch.nn": theirs(*sizes[2:])}
    contestants: dict[str, Timed] = {name: timed(both_passes(layer, given)) for name, layer in layers.items()}
    with ExitStack() as stack:
        if installed():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            jax = Jax(STEPS[cell], {name: value.numpy() for name, value in given.items()}, threads, folder)
            contestants["JAX"] = stack.enter_context(closing(jax)).seconds
        return contest(contestants, seconds, scale=1e3)


def arrays(gates: int, sizes: Sizes) -> dict[str, Tensor]:
    """The same for every contestant: xs (T, B, I), W (G, H, I), R (G, H, H), two biases (G, H), and dL/dhs (T, B, H)."""
    T, B, I, H = sizes
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=generator)

    return {
        "xs": normal(T, B, I),
        "W": normal(gates, H, I, scale=I**-0.5),
        "R": normal(gates, H, H, scale=H**-0.5),
        "b_ih": normal(gates, H),
        "b_hh": normal(gates, H),
        "dhs": normal(T, B, H),
    }


def both_passes(layer: nn.Module, given: dict[str, Tensor]) -> Call:
    """Forward and backward, with the gradient of the input; gradients are dropped, as an optimiser's zero_grad does."""
    xs, parameters = given["xs"].clone().requires_grad_(), list(layer.parameters())

    def call() -> None:
        layer(xs)[0].backward(given["dhs"])
        for leaf in (xs, *parameters):
            leaf.grad = None

    return call
