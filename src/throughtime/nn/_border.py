"""Converts a caller's layout (padded, batch first, or a single sequence) to (T, B, I), and results back.

T time · B batch · N packed rows · I input · P output: H, or the projection's size · D directions · L layers · S states.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import _check
from .._check import InputError
from .._shapes import State
from .._torch_private import is_batched
from ..kernels import Traversal, is_watched
from ._packed import Part, Run, lengths_of, padding_worth_a_call, parts_of, run_parts
from ._torchs_own import TRACER_READS_LAYERS


class TimeFirst(NamedTuple):
    """The arguments of a call with time first, and the layout that they came in. Packed sequences stay packed, the longest first."""

    xs: Tensor  # (T, B, I), or the packed rows (N, I)
    state: State | None  # S tensors (L·D, B, P or H)
    lengths: Tensor | None  # (B,)
    reset: Tensor | None  # (B,) or (T, B)
    packed: PackedSequence | None = None
    parts: list[Part] | None = None  # of packed sequences
    batched: bool = True

    @property
    def B(self) -> int:
        return self.xs.shape[1] if self.parts is None else self.parts[0].rows

    @property
    def is_ragged(self) -> bool:
        """Whether packed sequences of several lengths were given."""
        return self.parts is not None and (len(self.parts) > 1 or self.parts[0].lengths is not None)

    def run(self, layer: Run, xs: Tensor, state: State, traversal: Traversal) -> tuple[Tensor, State]:
        """One layer in one direction over ``xs``, laid out as ``self.xs``."""
        return layer(xs, state, traversal) if self.parts is None else run_parts(self.parts, layer, xs, state, traversal)


def to_time_first(
    layer: Any, input: Tensor | PackedSequence, hx: Any, lengths: Tensor | Sequence[int] | None, reset: Tensor | None
) -> TimeFirst:
    """Convert the arguments of a call to time first. What torch checks is checked with torch's messages."""
    data = input.data if isinstance(input, PackedSequence) else input
    _check.tensor("the input", data)
    _check.same_device(data.device, layer.weight_ih_l0.device)
    if isinstance(input, PackedSequence):
        return _packed(layer, input, hx, lengths, reset)
    return _time_first(layer, input, hx, lengths, reset)


def to_caller_layout(layer: Any, call: TimeFirst, hs: Tensor, last: State) -> tuple[Any, Any]:
    """Convert output and state to the layout of the input."""
    output: Any = hs
    if call.packed is not None:
        _, batch_sizes, order, back = call.packed
        output = PackedSequence(hs, batch_sizes, order, back)
        last = last if back is None else tuple(s.index_select(1, back) for s in last)
    elif not call.batched:
        output, last = hs.squeeze(1), tuple(s.squeeze(1) for s in last)
    elif layer.batch_first:
        output = hs.transpose(0, 1)
    if layer.state_batch_first and call.batched:
        last = tuple(s.transpose(0, 1) for s in last)
    return output, last if isinstance(layer, nn.LSTM) else last[0]


def autocasts(input: Tensor) -> bool:
    """Whether autocast is on for the input's device."""
    return not input.is_meta and torch.is_autocast_enabled(input.device.type)


def kind_of(layer: nn.Module) -> str:
    """RNN, GRU or LSTM, also for a reparametrised layer, whose class has another name."""
    return next(kind.__name__ for kind in (nn.RNN, nn.GRU, nn.LSTM) if isinstance(layer, kind))


def _time_first(layer: Any, input: Tensor, hx: Any, lengths: Any, reset: Tensor | None) -> TimeFirst:
    if input.ndim not in (2, 3):
        got = f"{input.ndim}D tensor" if isinstance(layer, nn.RNN) else f"{input.ndim}D"
        raise ValueError(f"{kind_of(layer)}: Expected input to be 2D or 3D, got {got} instead")
    batched = input.ndim == 3
    state = _given_state(layer, hx, batched=batched)
    input = input if batched else input.unsqueeze(0 if layer.batch_first else 1)
    _check_as_torch(layer, input, state, None)
    xs = input.transpose(0, 1).contiguous() if layer.batch_first else input  # the kernels' copy; the caller may then change the input
    T, B = xs.shape[:2]
    if lengths is not None:
        lengths = torch.as_tensor(lengths)
        _check.lengths(lengths, T, B, check_values=_is_readable(lengths))
        lengths = lengths.to(device=xs.device, dtype=torch.int64)
        xs = xs.masked_fill(
            (torch.arange(T, device=xs.device).unsqueeze(1) >= lengths).unsqueeze(2), 0
        )  # padding may hold anything, NaN too
    return TimeFirst(xs, state, lengths, _given_reset(reset, T, B, xs.device), batched=batched)


def _packed(layer: Any, packed: PackedSequence, hx: Any, lengths: Any, reset: Tensor | None) -> TimeFirst:
    """The packed order has the longest sequence first, so that those that have ended cost nothing."""
    if lengths is not None:
        raise InputError("lengths are given with a PackedSequence, which has its own; expected one of the two. Leave lengths away.")
    data, sizes, order, _ = packed
    state = _given_state(layer, hx, batched=True)
    if state is not None and order is not None:
        state = tuple(s.index_select(1, order) for s in state)
    _check_as_torch(layer, data, state, sizes)
    counts = np.array(sizes.tolist())  # not sizes.numpy(), which torch.func does not permit
    ends = torch.from_numpy(lengths_of(counts))
    reset = _given_reset(reset, len(sizes), len(ends), data.device)
    if reset is not None and order is not None:
        reset = reset.index_select(-1, order)
    draws = layer.training and (layer.zoneout or layer.recurrent_dropout)  # one mask for all steps of a sequence
    parts = parts_of(counts, math.inf if draws else padding_worth_a_call(layer))
    return TimeFirst(data, state, ends.to(data.device), reset, packed, parts)


def _given_state(layer: Any, hx: Any, *, batched: bool) -> State | None:
    """S tensors (L·D, B, ·) from the caller's ``hx``. A wrong number of dimensions raises torch's message."""
    if hx is None:
        return None
    several = isinstance(layer, nn.LSTM)
    state: State = tuple(hx) if several else (hx,)
    wanted = 3 if batched else 2
    if any(s.ndim != wanted for s in state):
        got = f"({state[0].ndim}-D, {state[-1].ndim}-D) tensors" if several else f"{state[0].ndim}-D tensor"
        kind, names = "batched 3-D" if batched else "unbatched 2-D", "hx and cx" if several else "hx"
        raise RuntimeError(f"For {kind} input, {names} should also be {wanted}-D but got {got}")
    if not batched:
        return tuple(s.unsqueeze(1) for s in state)
    return tuple(s.transpose(0, 1) for s in state) if layer.state_batch_first else state


def _check_as_torch(layer: Any, input: Tensor, state: State | None, batch_sizes: Tensor | None) -> None:
    """Run torch's own checks, with torch's messages. An old tracer cannot read them; there the operator checks."""
    if torch.compiler.is_dynamo_compiling() and not TRACER_READS_LAYERS:
        return
    if state is None:
        layer.check_input(input, batch_sizes)
    else:
        layer.check_forward_args(input, state if isinstance(layer, nn.LSTM) else state[0], batch_sizes)
        if not autocasts(input):
            _check.same_dtype("the state", state, input.dtype)


def _given_reset(reset: Tensor | None, T: int, B: int, device: torch.device) -> Tensor | None:
    if reset is None:
        return None
    reset = torch.as_tensor(reset)
    _check.reset(reset, T, B, check_values=_is_readable(reset))
    return reset.to(device, torch.bool)


def _is_readable(values: Tensor) -> bool:
    """Whether Python may look at the numbers: not while a graph is made of them."""
    return not (torch.compiler.is_compiling() or is_watched(values) or is_batched(values))
