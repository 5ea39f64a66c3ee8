"""Packed sequences of a few steps: torch's own loop over them, with less Python before it than torch.nn has.

torch multiplies the rows of each step as they lie. The kernels need an array, and to make one takes as long as some of torch's steps.

N packed rows · T steps · B sequences · I input · P output: H, or the projection's size · L layers · D directions · S states.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from .._shapes import State
from .._torch_private import own_parameters

_TENSORS = (Tensor, nn.Parameter)
_LOOPS: dict[Any, Any] = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu, "GRU": torch.gru, "LSTM": torch.lstm}


def steps_are_few(layer: Any, T: int) -> bool:
    """Whether torch's loop over the steps of packed sequences is the faster: as measured, H 16 to 256, B 2 to 16, one or two layers.

    A step of torch's takes longer where there are gates or many units, and much longer where a gradient is recorded. Without one, a
    further layer costs the kernels less than half of what the first does.
    """
    gated = not isinstance(layer, nn.RNN)
    if torch.is_grad_enabled():
        return T < (3 if gated else 8)
    return T * (1 + layer.num_layers) * (1 + layer.hidden_size / 1024) < 2 * (12 if gated else 28)


def torchs_loop(layer: Any, equations: Any, data: Tensor, sizes: Tensor, state: State) -> tuple[Tensor, State] | None:
    """The output (N, D·P) and the last state of a layer without options; None where its weights are not plain tensors of the input's kind.

    Args:
        equations: the simple network's activation, "GRU" or "LSTM".
        data: (N, I), in memory, which nothing watches.
        sizes: (T,) sequences in each step.
        state: S tensors (L·D, B, ·) before the first step, in the packed order.
    """
    found: dict[str, Any] = own_parameters(layer)
    weights: list[Any] = [found.get(name) for name in _names(layer.num_layers, layer.bidirectional, layer.bias, layer.proj_size > 0)]
    if not all([type(p) in _TENSORS and p.dtype == data.dtype and p.is_cpu for p in weights]) or equations not in _LOOPS:
        return None
    (h, *c) = state
    before = (h, *c) if c else h
    hs, *last = _LOOPS[equations](
        data, sizes, before, weights, layer.bias, layer.num_layers, layer.dropout, layer.training, layer.bidirectional
    )
    return hs, tuple(last)


@lru_cache
def _names(layers: int, both: bool, bias: bool, projects: bool) -> tuple[str, ...]:
    """The names of the weights in the order of torch's loops."""
    kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if bias else ()), *(("weight_hr",) if projects else ()))
    return tuple(f"{kind}_l{k}{end}" for k in range(layers) for end in ("", "_reverse")[: 1 + both] for kind in kinds)
