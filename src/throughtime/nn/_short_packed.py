"""The short way of a call with packed sequences: few steps by torch's loop, an array as it lies, the rest with a little padding.

What this file does not recognise is left to the ordinary way, which knows every option, cuts time into parts and has the messages.

N packed rows · T steps · B sequences · I input · H hidden · P output: H, or the projection's size · L layers · D directions · S states.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .._shapes import State
from ..kernels import Parameters, Several, Traversal, recurrence, several
from ._packed import Part, padding_worth_a_call, parts_of
from ._short import call_of, equations_of, has_options, is_plain, weights_of
from ._torchs_loop import steps_are_few, torchs_loop

_TENSORS = (Tensor, nn.Parameter)


def short_packed(layer: Any, packed: PackedSequence, hx: Any) -> tuple[Any, Any] | None:
    """Output and last state, as ``forward`` returns them; None if this call needs the ordinary way."""
    data, sizes, order, back = packed
    if not is_plain(data, 2) or has_options(layer) or data.shape[1] != layer.input_size or (order is None) != (back is None):
        return None
    counts = sizes.tolist()
    state = _state_of(layer, data, counts[0], hx) if counts else None
    if state is None or len(data) != sum(counts):
        return None
    if order is not None and hx is not None:
        state = tuple([s.index_select(1, order) for s in state])
    found = _run(layer, data, sizes, counts, state)
    if found is None:
        return None
    hs, last = found[0], list(found[1])
    if back is not None:
        last = [s.index_select(1, back) for s in last]
    return PackedSequence._make((hs, sizes, order, back)), tuple(last) if len(last) > 1 else last[0]


def _state_of(layer: Any, data: Tensor, B: int, hx: Any) -> State | None:
    """S tensors (L·D, B, ·), zeros if the caller gave none; None if what was given is nothing of these sizes."""
    rows, H = layer.num_layers * (1 + layer.bidirectional), layer.hidden_size
    sizes = [(rows, B, layer.proj_size or H), (rows, B, H)][: 2 if layer.mode == "LSTM" else 1]
    if hx is None:
        return tuple([data.new_zeros(size) for size in sizes])
    state = tuple(hx) if layer.mode == "LSTM" and isinstance(hx, (tuple, list)) else (hx,)
    plain = all([type(s) in _TENSORS and s.dtype == data.dtype and s.is_cpu for s in state])
    return state if plain and [tuple(s.shape) for s in state] == sizes else None


def _run(layer: Any, data: Tensor, sizes: Tensor, counts: list[int], state: State) -> tuple[Tensor, State] | None:
    """The output (N, D·P) and the last state, from packed rows and the state before the first step."""
    T, B, equal = len(counts), counts[0], counts[0] == counts[-1]
    few = steps_are_few(layer, T)
    call, weights = (None, None) if few and not equal else (call_of(layer), weights_of(layer))
    if call is None or weights is None:
        return torchs_loop(layer, equations_of(layer), data, sizes, state) if few else None
    if equal:
        found = several(call, data.unflatten(0, (T, B)), state, weights)
        return None if found is None else (found[0].flatten(0, 1), found[1])
    if any([p is not None and p.dtype != data.dtype for p in weights]):
        return None
    parts = parts_of(np.array(counts), padding_worth_a_call(layer))
    return _padded(call, parts[0], data, state, weights) if len(parts) == 1 else None


def _padded(call: Several, part: Part, data: Tensor, state: State, weights: tuple[Tensor | None, ...]) -> tuple[Tensor, State]:
    """One layer after another over an array."""
    below, ends, traversal = part.pad(data), [], Traversal(part.lengths)
    for l in range(call.layers):
        stored: Any = weights[4 * l : 4 * l + 4]
        below, last = recurrence(
            call.cell, below, tuple([s[l] for s in state]), Parameters(*stored), traversal=traversal, memory=call.memory
        )
        ends.append(last)
    return part.pack(below), tuple([s[0].unsqueeze(0) if len(s) == 1 else torch.stack(s) for s in zip(*ends, strict=True)])
