"""TorchRL's ``LSTMModule`` and ``GRUModule``: all trajectories of a batch in one call, and single steps by a shorter way.

In recurrent mode the modules cut each row where ``is_init`` marks a new trajectory, run

    (h_t, c_t) = LSTM(x_t, e_t · (given h, c at t) + (1 − e_t) · (h_{t−1}, c_{t−1}))        e_t = 1 at t = 0 and where is_init         (1)

and store the last state of each trajectory at its last step, zeros elsewhere. ``reset=`` of this package's layers does the same if the
given states are zeros, but returns the last state of each row only. Trajectories as sequences of one batch with ``lengths=`` give all of
them, from any given state; sequences that have ended cost no step.

Otherwise they take one step, of a roll-out:

    (h, c) = LSTM(x, (1 − is_init) · (given h, c))                                                                                     (2)
"""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
from typing import Any, TypeVar

import torch
from tensordict import TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor, nn
from torchrl.modules import GRUModule, LSTMModule

from ..nn import Layers, accelerate as accelerate_layers, restore as restore_layers

Given = TypeVar("Given", bound=nn.Module)
MOST = 8  # times the memory of the batch; TorchRL's own way, which packs, is left where trajectories differ more in length


def accelerate(model: Given) -> Given:
    """Let every ``LSTMModule`` and ``GRUModule`` in a model run on the packed kernels. The model is changed in place.

    Modules with a scan or Triton backend keep it, and so do python-based ones.

    >>> from tensordict import TensorDict
    >>> module = accelerate(GRUModule(input_size=3, hidden_size=5, in_key="x", out_key="y", default_recurrent_mode=True))
    >>> marks = torch.rand(4, 7, 1) < 0.2
    >>> module(TensorDict({"x": torch.zeros(4, 7, 3), "is_init": marks}, [4, 7]))["y"].shape
    torch.Size([4, 7, 5])
    """
    accelerate_layers(model)
    for module in model.modules():
        if type(module) in OURS:
            module.__class__ = OURS[type(module)]
    return model


def restore(model: Given) -> Given:
    """Undo ``accelerate``."""
    for module in model.modules():
        if type(module) in THEIRS:
            module.__class__ = THEIRS[type(module)]
    return restore_layers(model)


def by_trajectory(layer: Any, xs: Tensor, states: tuple[Tensor, ...], is_init: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Equation (1).

    Args:
        layer: with ``batch_first``.
        xs: (B, T, I).
        states: (B, T, L, H) each, read where a trajectory begins.
        is_init: (B, T) bool.

    Returns:
        The output (B, T, H), and the states (B, T, L, H), zero but for the last step of each trajectory.
    """
    B, T = is_init.shape
    starts, lengths, order = _trajectories(is_init)
    N, every = len(starts), torch.arange(B * T, device=xs.device)
    t = every[: int(lengths.max())].unsqueeze(1)
    places = (starts[order] + t).clamp(max=B * T - 1)  # (longest, N) of every step among B·T; what comes after an end is not read
    padded = xs.flatten(0, 1).index_select(0, places.flatten()).unflatten(0, places.shape)
    begin = _state(*(s.flatten(0, 1)[starts[order]] for s in states))
    output, last = layer(padded.transpose(0, 1), begin, lengths=lengths[order])
    number = torch.repeat_interleave(lengths)  # (B·T,) the trajectory of every step
    back = (every - starts[number]) * N + order.argsort()[number]
    output = output.transpose(0, 1).flatten(0, 1).index_select(0, back).unflatten(0, (B, T))
    ends = (starts + lengths - 1)[order]
    return output, tuple(_put(s.transpose(0, 1), ends, B, T) for s in (last if isinstance(last, tuple) else (last,)))


def one_step(layer: Any, x: Tensor, states: tuple[Tensor, ...], is_init: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Equation (2).

    Args:
        layer: with ``batch_first``.
        x: (B, I).
        states: (B, L, H) each.
        is_init: (B, 1) bool.

    Returns:
        The output (B, H), and the states (B, L, H).
    """
    is_init = is_init.unsqueeze(-1)
    output, last = layer(x.unsqueeze(1), _state(*(s.masked_fill(is_init, 0) for s in states)))
    return output.squeeze(1), tuple(s.transpose(0, 1) for s in (last if isinstance(last, tuple) else (last,)))


def _state(*states: Tensor) -> Any:
    """The layer's ``hx`` from states (B, L, H)."""
    layers_first = tuple(s.transpose(0, 1).contiguous() for s in states)
    return layers_first if len(states) > 1 else layers_first[0]


def _trajectories(is_init: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) the places among B·T where trajectories start, their lengths, and their order with the longest first, which costs least."""
    first = is_init.clone()
    first[:, 0] = True  # a trajectory that goes on from an earlier batch
    starts = first.flatten().nonzero().squeeze(1)
    lengths = torch.diff(starts, append=starts.new_tensor([first.numel()]))
    return starts, lengths, lengths.argsort(descending=True)


def _put(values: Tensor, places: Tensor, B: int, T: int) -> Tensor:
    """(B, T, ·) with the values at their places, zero elsewhere."""
    return values.new_zeros(B * T, *values.shape[1:]).index_copy(0, places, values).unflatten(0, (B, T))


def _run(module: Any, layer: Any, tensordict: TensorDictBase) -> TensorDictBase | None:
    """Fill in a module's results, or None where its own way is not ours, or has a message."""
    if not isinstance(layer, Layers) or layer.bidirectional or torch.compiler.is_compiling():
        return None
    shape, is_init = tensordict.shape, tensordict["is_init"]
    xs, *given = (tensordict.get(key, None) for key in module.in_keys[: 1 + len(layer.state_sizes())])
    if xs is None or any(s is None for s in given) != all(s is None for s in given) or is_init.shape != (*shape, 1):
        return None
    if given[0] is None:
        given = [xs.new_zeros(*shape, layer.num_layers, size) for size in layer.state_sizes().values()]
    if not module.recurrent_mode:
        results = _step(layer, shape, xs, given, is_init)
    elif module.recurrent_backend in ("auto", "pad") and shape and not _differ(is_init.reshape(-1, shape[-1])):
        results = _cut(layer, shape, xs, given, is_init)
    else:
        return None
    for key, result in zip(module.out_keys, results, strict=True):
        tensordict.set(key, result)
    return tensordict


def _differ(is_init: Tensor) -> bool:
    """Whether the trajectories differ so much in length that they are not to be padded."""
    _, lengths, _ = _trajectories(is_init)
    return int(lengths.max()) * len(lengths) > MOST * is_init.numel()


def _step(layer: Any, shape: torch.Size, x: Tensor, given: list[Tensor], is_init: Tensor) -> list[Tensor]:
    """Output and states of one step of all environments, shaped as they came."""
    output, last = one_step(layer, x.reshape(-1, x.shape[-1]), tuple(s.reshape(-1, *s.shape[-2:]) for s in given), is_init.reshape(-1, 1))
    return [result.reshape(*shape, *result.shape[1:]) for result in (output, *last)]


def _cut(layer: Any, shape: torch.Size, xs: Tensor, given: list[Tensor], is_init: Tensor) -> list[Tensor]:
    """Output and states of whole trajectories, shaped as they came: any number of batch dimensions before time."""
    rows = is_init.reshape(-1, shape[-1])
    states = tuple(s.reshape(*rows.shape, *s.shape[-2:]) for s in given)
    output, ends = by_trajectory(layer, xs.reshape(*rows.shape, -1), states, rows)
    return [result.reshape(*shape, *result.shape[2:]) for result in (output, *ends)]


class _OurLSTMModule(LSTMModule):
    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        done = _run(self, self.lstm, tensordict)
        return super().forward(tensordict) if done is None else done


class _OurGRUModule(GRUModule):
    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        done = _run(self, self.gru, tensordict)
        return super().forward(tensordict) if done is None else done


OURS: dict[type[nn.Module], type[nn.Module]] = {LSTMModule: _OurLSTMModule, GRUModule: _OurGRUModule}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
