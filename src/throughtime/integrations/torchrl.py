"""TorchRL's ``LSTMModule`` and ``GRUModule``: all trajectories of a batch in one packed call.

In recurrent mode the modules cut each row where ``is_init`` marks a new trajectory, run

    (h_t, c_t) = LSTM(x_t, e_t · (given h, c at t) + (1 − e_t) · (h_{t−1}, c_{t−1}))        e_t = 1 at t = 0 and where is_init         (1)

and store the last state of each trajectory at its last step, zeros elsewhere. ``reset=`` of this package's layers does the same if the
given states are zeros, but returns the last state of each row only. Trajectories as sequences of one packed batch give all of them, from
any given state, without a step of padding.
"""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
from typing import Any, TypeVar

import torch
from tensordict import TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torchrl.modules import GRUModule, LSTMModule

from ..nn import Layers, accelerate as accelerate_layers, restore as restore_layers

Given = TypeVar("Given", bound=nn.Module)


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
    first = is_init.clone()
    first[:, 0] = True  # a trajectory that goes on from an earlier batch
    starts = first.flatten().nonzero().squeeze(1)  # (N,) places among B·T
    lengths = torch.diff(starts, append=starts.new_tensor([B * T]))
    lengths, order = lengths.sort(descending=True)
    starts = starts[order]
    t = torch.arange(int(lengths[0]), device=xs.device).unsqueeze(1)
    alive = t < lengths  # (longest, N)
    places = (starts + t)[alive]  # (B·T,) of the packed steps
    packed = PackedSequence(xs.flatten(0, 1)[places], alive.sum(1).cpu())
    begin = tuple(s.flatten(0, 1)[starts].transpose(0, 1).contiguous() for s in states)
    output, last = layer(packed, begin if len(begin) > 1 else begin[0])
    ends = [_put(s.transpose(0, 1), starts + lengths - 1, B, T) for s in (last if isinstance(last, tuple) else (last,))]
    return _put(output.data, places, B, T), tuple(ends)


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
