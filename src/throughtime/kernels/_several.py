"""Several layers of one cell as a single node of autograd: the shortest way from torch's tensors to the packed kernels and back.

T time · B batch · I input · H hidden · G gates · S states · L layers.

``_recurrence`` serves every layer in every situation. Half of what a call of a small layer takes there is spent in Python. A call without
lengths, resets, clipping and transforms comes here instead: one call of the extension for all layers, weights as torch stores them, no
array of zeros for a state that is not given. A cell of one's own comes too; where it has vectors of its own, one layer at a time.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._shapes import State
from .._torch_private import is_batched
from ..cells import AbstractCell
from . import _fast, generated
from ._choice import get_threads
from ._recurrence import recurrence
from ._table import known
from ._types import Memory, Parameters

Weights = tuple[Tensor | None, ...]  # W (G·H, I), R (G·H, H), b_ih and b_hh (G·H) or None, of one layer after another


class Several(NamedTuple):
    """What a call of several layers is, but for its tensors.

    Attributes:
        cell: the cell of every layer. It has packed kernels.
        number: the extension's number for it, which of a cell of one's own is for one type of element.
        layers: L.
        memory: what is kept for backward.
        copies: whether an output that is h, which backward needs, is given as a copy: the caller may change it in place, as torch's.
        vectors: (H,) the cell's own, the learned ones first.
        learned: how many of them are learned.
    """

    cell: AbstractCell
    number: int
    layers: int
    memory: Memory
    copies: bool
    vectors: tuple[Tensor, ...] = ()
    learned: int = 0


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
            hs, *last = _Several.apply(call, xs, *states, *weights, *call.vectors)  # type: ignore[misc]
            return hs, tuple(last)
        hs, last, _ = _forward(call, xs, state, weights, "none")
    except (TypeError, ValueError):  # it has written nothing
        return None
    return hs[-1], last


def several_of(
    cell: AbstractCell, layers: int, memory: Memory, *, dtype: torch.dtype = torch.float32, copies: bool = True
) -> Several | None:
    """The call of so many layers of a cell; None where the packed kernels do not serve it.

    Args:
        cell: the cell of every layer. One of one's own is compiled here, at its first use.
        layers: L.
        memory: what is kept for backward.
        dtype: of what will be called, for a cell of one's own.
        copies: see ``Several``.
    """
    if not _fast.is_there():
        return None
    if known(cell) is not None:
        return Several(cell, _fast.number_of(cell), layers, memory, copies)
    if generated.why_not(cell, dtype):
        return None
    own = generated.known(cell)
    vectors = generated.tensors_of(cell, own.names)
    if vectors and (layers > 1 or not all([v.dim() == 1 and type(v) in (Tensor, nn.Parameter) for v in vectors])):
        return None  # several layers have vectors of their own each
    return Several(cell, _fast.number_of(cell, dtype), layers, memory, copies, vectors, own.source.learned)


def _forward(call: Several, xs: Tensor, state: State | None, weights: Weights, keep: _fast.Keep) -> Any:
    """(hs of every layer, the last state, residuals of every layer). Where nothing is kept, layers below share two arrays."""
    number, L = call.number, call.layers
    (T, B, _), H = xs.shape, weights[1].shape[-1]  # type: ignore[union-attr]
    xs, state = _dense(xs), None if state is None else tuple(map(_dense, state))
    distinct = [xs.new_empty((T, B, H)) for _ in range(L if keep != "none" else min(L, 3))]
    hs = tuple(distinct) if len(distinct) == L else (*(distinct[l % 2] for l in range(L - 1)), distinct[2])
    last = tuple([xs.new_empty((L, B, H)) for _ in range(call.cell.states)])
    size = 0 if keep == "none" else int(_fast.numbers_kept(number, xs.dtype, (T, B, H), keep))
    residuals = tuple([xs.new_empty(size) for _ in range(L)]) if size else None
    _fast.forward_layers((number, xs, state, weights, call.vectors, keep, get_threads()), (hs, last, residuals))
    return hs, last, residuals


def _dense(t: Tensor) -> Tensor:
    return t if t.is_contiguous() else t.contiguous()


class _Several(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Several, xs: Tensor, *rest: Any) -> Any:
        S = call.cell.states
        state, weights = None if rest[0] is None else rest[:S], rest[S : S + 4 * call.layers]
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
        before = S + 4 * L + len(call.vectors)
        state, weights = None if saved[0] is None else tuple(saved[:S]), tuple(saved[S : S + 4 * L])
        vectors = tuple(saved[S + 4 * L : before])
        if torch.is_grad_enabled() or any(map(is_batched, (dhs, *dlast))):  # create_graph: this gradient is to be differentiated itself
            return None, *_differentiable(call, xs, saved[:before], dhs, dlast, ctx.needs_input_grad[1:])
        hs, residuals = tuple(saved[before : before + L]), tuple(saved[before + L :]) or None
        xs, state = _dense(xs), None if state is None else tuple(map(_dense, state))
        dxs = xs.new_empty(xs.shape) if ctx.needs_input_grad[1] else None
        started = any(ctx.needs_input_grad[2 : 2 + S])
        dstate = tuple([s.new_empty(s.shape) for s in state]) if state is not None and started else None
        dweights = tuple([None if p is None else p.new_empty(p.shape) for p in weights])
        dvectors = tuple([v.new_empty(v.shape) for v in vectors[: call.learned]])
        between = tuple([hs[0].new_empty(hs[0].shape) for _ in range(min(L - 1, 2))])
        arriving = (None if dhs is None else _dense(dhs), tuple([None if d is None else _dense(d) for d in dlast]))
        layers = (call.number, xs, state, weights, vectors, call.memory, get_threads())
        _fast.backward_layers(layers, (hs, residuals), arriving, (dxs, dstate, dweights, dvectors, between))
        return None, dxs, *(dstate or (None,) * S), *dweights, *dvectors, *(None,) * (len(vectors) - call.learned)


@torch.enable_grad()
def _differentiable(
    call: Several, xs: Tensor, rest: list[Tensor | None], dhs: Tensor | None, dlast: tuple[Tensor | None, ...], needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """The same gradients as a differentiable function of everything they depend on: those of a run layer by layer.

    Each argument is replaced by a view of its own, because one tensor may be given twice, and each place has a gradient of its own.
    """
    given = [None if x is None else x.view_as(x) for x in (xs, *rest)]
    first = 1 + call.cell.states + 4 * call.layers
    learned: Any = given[first : first + call.learned]
    with generated.with_learned(call.cell, learned) as cell:
        outputs = [(y, d) for y, d in zip(_one_by_one(call._replace(cell=cell), given), (dhs, *dlast), strict=True) if d is not None]
    wanted = [x for x, needs in zip(given, needed, strict=True) if needs and x is not None]
    ys, ds = zip(*outputs, strict=True)
    found = iter(torch.autograd.grad(ys, wanted, ds, create_graph=True, allow_unused=True))
    return [next(found) if needs and x is not None else None for x, needs in zip(given, needed, strict=True)]


def _one_by_one(call: Several, given: list[Any]) -> list[Tensor]:
    """[hs, *last] of the same layers, each by ``recurrence``."""
    S = call.cell.states
    below, state, weights = given[0], given[1 : 1 + S], given[1 + S : 1 + S + 4 * call.layers]
    H = weights[1].shape[-1]
    lasts = []
    for l in range(call.layers):
        before = tuple(below.new_zeros(below.shape[1], H) if s is None else s[l] for s in state)
        below, last = recurrence(call.cell, below, before, Parameters(*weights[4 * l : 4 * l + 4]), memory=call.memory)
        lasts.append(last)
    return [below, *map(torch.stack, zip(*lasts, strict=True))]
