"""How long each recurrent layer of a model takes on an example, as torch's own and as this package's.

The model runs once on the example, in evaluation mode and without gradients, so that nothing in it changes; each layer then runs on the
arguments that reached it. Both kinds take turns, and medians are compared, so that a disturbance meets both.
"""

import copy
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ._exchange import exchanged

ROUNDS = 15
SECONDS = 1.0  # for one layer; at least three rounds are run

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@final
@dataclass(frozen=True)
class Gain:
    """Seconds of one call of a layer on the example.

    >>> print(Gain(0.002, 0.001, backward=True))
    2.00 times as fast on the example, forward and backward: 2.000 ms became 1.000 ms
    """

    torchs: float
    ours: float
    backward: bool

    @property
    def times(self) -> float:
        """How many times as fast ours is."""
        return self.torchs / self.ours

    def __str__(self) -> str:
        what = "forward and backward" if self.backward else "forward"
        return f"{self.times:.2f} times as fast on the example, {what}: {1e3 * self.torchs:.3f} ms became {1e3 * self.ours:.3f} ms"


def gains_on(model: nn.Module, example: Any, layers: Mapping[str, nn.Module]) -> dict[str, Gain]:
    """The gain of each layer that the example reaches."""
    reached = _arguments(model, example, layers)
    return {name: _gain(layers[name], arguments) for name, arguments in reached.items()}


def _arguments(model: nn.Module, example: Any, layers: Mapping[str, nn.Module]) -> dict[str, Arguments]:
    """The arguments of each layer's first call. Modes, random numbers, buffers and gradients stay as they are."""
    found: dict[str, Arguments] = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: found.setdefault(name, (args, kwargs)) and None, with_kwargs=True
        )
        for name, layer in layers.items()
    ]
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.random.fork_rng(), torch.no_grad():
            model.eval()(*example) if isinstance(example, tuple) else model.eval()(example)
    finally:
        for module, mode in modes:
            module.training = mode
        for hook in hooks:
            hook.remove()
    return found


def _gain(layer: nn.Module, arguments: Arguments) -> Gain:
    """Both kinds of the layer, each a copy, on the same arguments."""
    pair = copy.deepcopy(layer), exchanged(copy.deepcopy(layer))
    backward = layer.training and any(p.requires_grad for p in layer.parameters())
    calls = [_Call(one, *arguments, backward) for one in pair]
    with torch.random.fork_rng(), torch.set_grad_enabled(backward):
        torchs, ours = _medians(calls)
    return Gain(torchs, ours, backward)


class _Call(NamedTuple):
    """One kind of a layer with the arguments that reached it."""

    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    backward: bool

    def run(self) -> None:
        outputs = [y for y in _tensors(self.layer(*self.args, **self.kwargs)) if y.requires_grad]
        if self.backward:
            weights = [p for p in self.layer.parameters() if p.requires_grad]
            torch.autograd.grad(outputs, weights, list(map(torch.ones_like, outputs)), allow_unused=True)


def _tensors(nested: Any) -> Iterable[Tensor]:
    if isinstance(nested, PackedSequence):
        return [nested.data]
    if isinstance(nested, (tuple, list)):
        return [leaf for one in nested for leaf in _tensors(one)]
    return [nested] if isinstance(nested, Tensor) else []


def _medians(calls: list[_Call]) -> list[float]:
    """Seconds of each call: the median of rounds in which each runs once, after one round to warm up."""
    rounds = [[_seconds(call) for call in calls]]
    end = time.perf_counter() + SECONDS
    while len(rounds) <= 3 or (len(rounds) <= ROUNDS and time.perf_counter() < end):
        rounds.append([_seconds(call) for call in calls])
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def _seconds(call: _Call) -> float:
    start = time.perf_counter()
    call.run()
    return time.perf_counter() - start
