"""Several layers of one cell as a single node of autograd: the shortest way from torch's tensors to the packed kernels and back.

T time · B batch · I input · H hidden · G gates · S states · L layers.

``_recurrence`` serves every layer in every situation. Half of what a call of a small layer takes there is spent in Python. A call without
lengths, resets, clipping and transforms comes here instead: one call of the extension for all layers, weights as torch stores them, no
array of zeros for a state that is not given.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._shapes import State
from .._torch_private import is_batched
from ..cells import AbstractCell
from . import _fast
from ._choice import get_threads
from ._recurrence import recurrence
from ._table import known
from ._types import Memory, Parameters

Weights = tuple[Tensor | None, ...]  # W (G·H, I), R (G·H, H), b_ih and b_hh (G·H) or None, of one layer after another


class Several(NamedTuple):
    """What a call of several layers is, but for its tensors.

    Attributes:
        cell: the cell of every layer. It has packed kernels.
        number: the extension's number for it.
        layers: L.
        memory: what is kept for backward.
        copies: whether an output that is h, which backward needs, is given as a copy: the caller may change it in place, as torch's.
    """

    cell: AbstractCell
    number: int
    layers: int
    memory: Memory
    copies: bool


def several(call: Several, xs: Tensor, state: State | None, weights: Weights) -> tuple[Tensor, State] | None:
    """Run L layers over ``xs`` (T, B, I) from ``state``, S tensors (L, B, H), or zeros.

    Returns:
        ``hs`` (T, B, H) of the last layer and the last state, S tensors (L, B, H), differentiable any number of times. None if the
        extension refuses a tensor, by its device, type, shape or strides: ``recurrence`` serves it then, or says what is wrong with it.

    >>> from throughtime.cells import GRU
    >>> weights = (torch.randn(15, 2), torch.randn(15, 5), None, None)
    >>> hs, (h,) = several(several_of(GRU(), 1, "fast"), torch.randn(7, 3, 2), None, weights)
    >>> torch.equal(hs[-1], h[0])
    True
    """
    try:
        if torch.is_grad_enabled():
            states = (None,) * call.cell.states if state is None else state
            hs, *last = _Several.apply(call, xs, *states, *weights)  # type: ignore[misc]
            return hs, tuple(last)
        hs, last, _ = _forward(call, xs, state, weights, "none")
    except (TypeError, ValueError):  # it has written nothing
        return None
    return hs[-1], last


def several_of(cell: AbstractCell, layers: int, memory: Memory, *, copies: bool = True) -> Several | None:
    """The call of so many layers of a cell; None where the packed kernels do not serve it."""
    if not _fast.is_there() or known(cell) is None:
        return None
    return Several(cell, _fast.number_of(cell), layers, memory, copies)


def _forward(call: Several, xs: Tensor, state: State | None, weights: Weights, keep: _fast.Keep) -> Any:
    """(hs of every layer, the last state, residuals of every layer). Where nothing is kept, layers below share two arrays."""
    number, L = call.number, call.layers
    (T, B, _), H = xs.shape, weights[1].shape[-1]  # type: ignore[union-attr]
    xs, state = _dense(xs), None if state is None else tuple(map(_dense, state))
    distinct = [xs.new_empty((T, B, H)) for _ in range(L if keep != "none" else min(L, 3))]
    hs = tuple(distinct) if len(distinct) == L else (*(distinct[l % 2] for l in range(L - 1)), distinct[2])
    last = tuple([xs.new_empty((L, B, H)) for _ in range(call.cell.states)])
    size = _numbers_kept(call.cell, xs.dtype, T, B, H, keep)
    residuals = tuple([xs.new_empty(size) for _ in range(L)]) if size else None
    _fast.forward_layers((number, xs, state, weights, keep, get_threads()), (hs, last, residuals))
    return hs, last, residuals


@lru_cache(maxsize=4096)
def _numbers_kept(cell: AbstractCell, dtype: torch.dtype, T: int, B: int, H: int, keep: _fast.Keep) -> int:
    return 0 if keep == "none" else int(_fast.residual_numbers(cell, dtype, (T, B, H), keep))


def _dense(t: Tensor) -> Tensor:
    return t if t.is_contiguous() else t.contiguous()


class _Several(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Several, xs: Tensor, *rest: Any) -> Any:
        S = call.cell.states
        state, weights = None if rest[0] is None else rest[:S], rest[S:]
        keep = call.memory if any(ctx.needs_input_grad) else "none"
        hs, last, residuals = _forward(call, xs, state, weights, keep)
        ctx.set_materialize_grads(False)
        if keep != "none":
            ctx.call = call
            ctx.save_for_backward(xs, *rest, *hs, *(residuals or ()))
        return hs[-1].clone() if call.copies and S == 1 and keep != "none" else hs[-1], *last

    @staticmethod
    def backward(ctx: Any, dhs: Tensor | None, *dlast: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        call, (xs, *saved) = ctx.call, ctx.saved_tensors
        S, L = call.cell.states, call.layers
        before = S + 4 * L
        state, weights = None if saved[0] is None else tuple(saved[:S]), tuple(saved[S:before])
        if torch.is_grad_enabled() or any(map(is_batched, (dhs, *dlast))):  # create_graph: this gradient is to be differentiated itself
            return None, *_differentiable(call, xs, saved[:before], dhs, dlast, ctx.needs_input_grad[1:])
        hs, residuals = tuple(saved[before : before + L]), tuple(saved[before + L :]) or None
        xs, state = _dense(xs), None if state is None else tuple(map(_dense, state))
        dxs = xs.new_empty(xs.shape) if ctx.needs_input_grad[1] else None
        started = any(ctx.needs_input_grad[2 : 2 + S])
        dstate = tuple([s.new_empty(s.shape) for s in state]) if state is not None and started else None
        dweights = tuple([None if p is None else p.new_empty(p.shape) for p in weights])
        between = tuple([hs[0].new_empty(hs[0].shape) for _ in range(min(L - 1, 2))])
        arriving = (None if dhs is None else _dense(dhs), tuple([None if d is None else _dense(d) for d in dlast]))
        layers = (call.number, xs, state, weights, call.memory, get_threads())
        _fast.backward_layers(layers, (hs, residuals), arriving, (dxs, dstate, dweights, between))
        return None, dxs, *(dstate or (None,) * S), *dweights


@torch.enable_grad()
def _differentiable(
    call: Several, xs: Tensor, rest: list[Tensor | None], dhs: Tensor | None, dlast: tuple[Tensor | None, ...], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """The same gradients as a differentiable function of everything they depend on: those of a run layer by layer.

    Each argument is replaced by a view of its own, because one tensor may be given twice, and each place has a gradient of its own.
    """
    given = [None if x is None else x.view_as(x) for x in (xs, *rest)]
    outputs = [(y, d) for y, d in zip(_one_by_one(call, given), (dhs, *dlast), strict=True) if d is not None]
    wanted = [x for x, needs in zip(given, needed, strict=True) if needs and x is not None]
    ys, ds = zip(*outputs, strict=True)
    found = iter(torch.autograd.grad(ys, wanted, ds, create_graph=True, allow_unused=True))
    return [next(found) if needs and x is not None else None for x, needs in zip(given, needed, strict=True)]


def _one_by_one(call: Several, given: list[Any]) -> list[Tensor]:
    """[hs, *last] of the same layers, each by ``recurrence``."""
    S = call.cell.states
    below, state, weights = given[0], given[1 : 1 + S], given[1 + S :]
    H = weights[1].shape[-1]
    lasts = []
    for l in range(call.layers):
        before = tuple(below.new_zeros(below.shape[1], H) if s is None else s[l] for s in state)
        below, last = recurrence(call.cell, below, before, Parameters(*weights[4 * l : 4 * l + 4]), memory=call.memory)
        lasts.append(last)
    return [below, *map(torch.stack, zip(*lasts, strict=True))]
