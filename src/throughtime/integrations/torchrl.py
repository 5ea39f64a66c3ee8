"""TorchRL's ``LSTMModule`` and ``GRUModule``: all trajectories of a batch in one call.

In recurrent mode the modules cut each row where ``is_init`` marks a new trajectory, run

    (h_t, c_t) = LSTM(x_t, e_t · (given h, c at t) + (1 − e_t) · (h_{t−1}, c_{t−1}))        e_t = 1 at t = 0 and where is_init         (1)

and store the last state of each trajectory at its last step, zeros elsewhere. ``reset=`` of this package's layers does the same if the
given states are zeros, but returns the last state of each row only. Trajectories as sequences of one batch with ``lengths=`` give all of
them, from any given state; sequences that have ended cost no step.
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
    begin = tuple(s.flatten(0, 1)[starts[order]].transpose(0, 1).contiguous() for s in states)
    output, last = layer(padded.transpose(0, 1), begin if len(begin) > 1 else begin[0], lengths=lengths[order])
    number = torch.repeat_interleave(lengths)  # (B·T,) the trajectory of every step
    back = (every - starts[number]) * N + order.argsort()[number]
    output = output.transpose(0, 1).flatten(0, 1).index_select(0, back).unflatten(0, (B, T))
    ends = (starts + lengths - 1)[order]
    return output, tuple(_put(s.transpose(0, 1), ends, B, T) for s in (last if isinstance(last, tuple) else (last,)))


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
    """Fill in a module's results, or None where its own way has nothing to cut, or is not ours."""
    ours = isinstance(layer, Layers) and not layer.bidirectional and module.recurrent_backend in ("auto", "pad")
    if not (ours and module.recurrent_mode and tensordict.ndim) or torch.compiler.is_compiling():
        return None
    shape, T = tensordict.shape, tensordict.shape[-1]
    is_init = tensordict["is_init"].reshape(-1, T)
    if not is_init[:, 1:].any():
        return None
    _, lengths, _ = _trajectories(is_init)
    if int(lengths.max()) * len(lengths) > MOST * is_init.numel():
        return None
    xs = tensordict[module.in_keys[0]].reshape(len(is_init), T, -1)
    given = [tensordict.get(key, None) for key in module.in_keys[1 : 1 + len(layer.state_sizes())]]
    if any(s is None for s in given):
        if not all(s is None for s in given):
            return None  # their own message
        given = [xs.new_zeros(*is_init.shape, layer.num_layers, size) for size in layer.state_sizes().values()]
    states = tuple(s.reshape(*is_init.shape, *s.shape[-2:]) for s in given)
    output, ends = by_trajectory(layer, xs, states, is_init)
    for key, result in zip(module.out_keys, (output, *ends), strict=True):
        tensordict.set(key, result.reshape(*shape, *result.shape[2:]))
    return tensordict


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
