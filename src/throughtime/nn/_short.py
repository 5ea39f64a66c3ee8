"""The short way of a call that uses none of a layer's options: straight from the caller's tensors to the packed kernels.

T time · B batch · I input · H hidden · S states · L layers.

A program that takes one step at a time makes many small calls, and most of such a call is Python. Everything that this file does not
recognise is left to the ordinary way, which knows every option and has the messages.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from .._shapes import State
from .._torch_private import dispatch_mode_is_active, forward_mode_is_active, functorch_is_active, own_parameters
from ..cells import GRU, LSTM, AbstractCell
from ..kernels import Memory, Several, get_kernels, several, several_of
from ._cells import elman
from ._initial import Zeros

_TENSORS = (Tensor, nn.Parameter)  # a subclass of them may have no memory of its own
_FLOATS = (torch.float32, torch.float64)
_CELLS: dict[str, AbstractCell] = {"GRU": GRU(), "LSTM": LSTM()}


def short_call(layer: Any, input: Any, hx: Any) -> tuple[Any, Any] | None:
    """Output and last state, as ``forward`` returns them; None if this call needs the ordinary way."""
    if not is_plain(input, 3):
        return None
    call, weights, state = call_of(layer), weights_of(layer), _state_of(layer, hx)
    if call is None or weights is None or state is None:
        return None
    batch_first = layer.batch_first
    xs = input.transpose(0, 1).contiguous() if batch_first else input  # the kernels' copy; the caller may then change the input
    found: Any = several(call, xs, state if len(state) else None, weights)
    if found is None:
        return None
    hs, last = found
    return hs.transpose(0, 1) if batch_first else hs, last if len(last) > 1 else last[0]


def short_stack(stack: Any, xs: Any, state: Any) -> tuple[Tensor, State] | None:
    """Output and last state of a ``Recurrence``; None if this call needs the ordinary way."""
    dropped = stack.dropout and stack.training and stack.num_layers > 1
    if dropped or get_kernels() == "plain" or not is_plain(xs, 3):
        return None
    call, weights = several_of(stack.cell, stack.num_layers, stack.memory, dtype=xs.dtype, copies=False), weights_of(stack)
    if call is None or weights is None:
        return None
    if state is None and not isinstance(stack.initial_rule, Zeros):
        state = stack.initial_state(xs.shape[1])
    if state is not None and not (isinstance(state, tuple) and len(state) == call.cell.states and _are_plain(state)):
        return None
    return several(call, xs, state, weights)


def is_plain(t: Any, dimensions: int) -> bool:
    """Whether ``t`` is floats in memory, of which torch does no more than compute and, perhaps, record it for backward."""
    return type(t) in _TENSORS and t.dim() == dimensions and t.is_cpu and t.dtype in _FLOATS and not _torch_transforms()


def _torch_transforms() -> bool:
    """Whether torch does more with this call than compute it and, perhaps, record it for backward."""
    return (
        functorch_is_active()
        or forward_mode_is_active()
        or dispatch_mode_is_active()
        or torch.is_autocast_enabled("cpu")
        or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    )


def call_of(layer: Any) -> Several | None:
    """The layers as one call; None where an option is in use."""
    if layer.bidirectional or layer.proj_size or (layer.dropout and layer.training and layer.num_layers > 1) or has_options(layer):
        return None
    kind = equations_of(layer)
    return _several_of(kind, layer.num_layers, layer.memory) if isinstance(kind, str) else None


def has_options(layer: Any) -> bool:
    """Whether the layer does now what torch's would not, or the plain loop is to run."""
    return bool(
        layer.learn_h0
        or layer.layer_norm
        or layer.zoneout
        or (layer.recurrent_dropout and layer.training)
        or layer.state_batch_first
        or get_kernels() == "plain"
    )


def equations_of(layer: Any) -> Any:
    """ "GRU", "LSTM", or the simple network's activation: a word, or a callable of its owner's."""
    return layer.nonlinearity if layer.mode.startswith("RNN") else layer.mode


@lru_cache
def _several_of(kind: str, layers: int, memory: Memory) -> Several | None:
    return several_of(_CELLS[kind] if kind in _CELLS else elman(kind), layers, memory)


def weights_of(layer: Any) -> tuple[Tensor | None, ...] | None:
    """W, R, b_ih, b_hh of every layer; None where one is computed by a reparametrisation or is no plain tensor."""
    names = _names(layer.num_layers, layer.bias)
    found = tuple(map(own_parameters(layer).get, names))
    return found if all([not name or type(p) in _TENSORS for name, p in zip(names, found, strict=True)]) else None


@lru_cache
def _names(layers: int, bias: bool) -> tuple[str, ...]:
    kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if bias else ("", "")))
    return tuple(f"{kind}_l{layer}" for layer in range(layers) for kind in kinds)


def _state_of(layer: Any, hx: Any) -> tuple[Tensor, ...] | None:
    """S tensors (L, B, H), none of them if the caller gave no state; None if what was given is no state of a batch."""
    if hx is None:
        return ()
    state = tuple(hx) if layer.mode == "LSTM" and isinstance(hx, (tuple, list)) else (hx,)
    return state if len(state) == (2 if layer.mode == "LSTM" else 1) and _are_plain(state) else None


def _are_plain(state: tuple[Any, ...]) -> bool:
    return all([type(s) in _TENSORS and s.dim() == 3 for s in state])
