"""One layer's recurrence as a differentiable function of torch.

T time · B batch · I input · H hidden · G gates · S states.

In eager mode it is one node of autograd, whose backward is the hand-written recursion. Under torch.compile, torch.func and whatever else
must see every operation (make_fx, fake tensors) it is an operator of ``torch.library`` (``_operators``). In forward mode, under jit.trace
and functionalize, for subclasses of Tensor, and under a transform for a cell without a kernel, it is a graph of torch's own operations
(``_unrolled``). A gradient of the gradient, or of many adjoints at once, is a differentiable recomputation of the same graph.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._shapes import State
from .._torch_private import (
    dispatch_mode_is_active,
    forward_mode_is_active,
    functionalize_is_active,
    functorch_is_active,
    is_batched,
    is_fake,
)
from ..cells import AbstractCell
from . import _fast, generated
from ._choice import get_kernels, get_threads
from ._dispatch import backward, forward
from ._operators import operator, refuse_clipped_adjoint
from ._table import known
from ._types import FORWARD, Gradients, LayerParameters, Memory, Parameters, Run, Traversal, flat, from_flat
from ._unrolled import named_leaves, pulled_back, unrolled


def recurrence(
    cell: AbstractCell,
    xs: Tensor,
    state: State,
    parameters: LayerParameters,
    *,
    traversal: Traversal = FORWARD,
    clip_adjoint: float | None = None,
    memory: Memory = "fast",
) -> tuple[Tensor, State]:
    """Run one layer over ``xs`` (T, B, I) from ``state``, S tensors (B, H).

    Args:
        cell: the step.
        xs: inputs; with ``RecurrentParameters``, the input half wx (T, B, G, H).
        state: the state before the first step.
        parameters: weights, with the gate axis or as torch stores them, (G·H, ·).
        traversal: lengths, resets, direction.
        clip_adjoint: see ``nn.Recurrence``.
        memory: "fast" keeps the gates for backward; "lean" recomputes them. Only the packed kernels have both.

    Returns:
        ``hs`` (T, B, H) and the last state, both differentiable any number of times.

    >>> from throughtime.cells import LSTM
    >>> weights = Parameters(torch.randn(4, 5, 2), torch.randn(4, 5, 5, requires_grad=True), None, None)
    >>> hs, (h, c) = recurrence(LSTM(), torch.randn(7, 3, 2), (torch.zeros(3, 5), torch.zeros(3, 5)), weights)
    >>> hs.sum().backward()
    >>> weights.R.grad.shape
    torch.Size([4, 5, 5])
    """
    if torch.compiler.is_compiling() or functorch_is_active() or forward_mode_is_active() or is_watched(xs):
        return _transformed(cell, xs, state, parameters, traversal, clip_adjoint, memory)
    packed, is_known = get_kernels() == "fast" and _fast.supports(cell, xs) is None, known(cell) is not None
    if not packed and not is_known and clip_adjoint is None and _is_graph(cell):
        return unrolled(cell, xs, state, _with_gate_axis(cell, *flat(parameters)), traversal)
    restart, keep = traversal.restart or (), memory if torch.is_grad_enabled() else "none"
    vectors = () if is_known else generated.known_learned(cell) if packed else generated.learned_vectors(cell)
    inputs = (xs, *state, *flat(parameters), *restart, *vectors)
    hs, *last = _Recurrence.apply(cell, traversal, clip_adjoint, keep, packed, len(state), *inputs)  # type: ignore[misc]
    return hs, tuple(last)


def _is_graph(cell: AbstractCell) -> bool:
    """Whether autograd's graph serves a cell without a kernel best: without a derivative by hand, each step of the plain loop's way back
    would differentiate the cell anew."""
    return bool(generated.learned_vectors(cell)) or (get_kernels() == "fast" and not generated.differentiated_by_hand(cell))


def is_watched(xs: Tensor) -> bool:
    """Whether something must see every operation on ``xs``, and not only memory that a kernel has filled: make_fx and other modes of
    torch's dispatcher, jit.trace, a subclass of Tensor with operations of its own, a device without memory.

    >>> is_watched(torch.zeros(7, 4, 2)), is_watched(torch.zeros(7, 4, 2, device="meta"))
    (False, True)
    """
    return dispatch_mode_is_active() or _is_traced() or has_own_operations(xs) or xs.is_meta


def has_own_operations(t: Tensor) -> bool:
    """Whether ``t`` is of a subclass that defines torch's operations anew, such as a fake or a distributed tensor.

    >>> has_own_operations(torch.nn.Parameter(torch.zeros(2)))
    False
    """
    plain: Any = Tensor
    return type(t).__torch_dispatch__ is not plain.__torch_dispatch__  # type: ignore[attr-defined]


def serves(cell: AbstractCell, xs: Tensor | None = None) -> str:
    """Which kernels run this cell on this input: "fast", or "plain: " with the reason. A cell of one's own is compiled if it was not yet.

    Args:
        cell: the step.
        xs: any input of the type and device that is meant; None: float32 on the CPU.

    >>> from throughtime.cells import Elman
    >>> serves(Elman(lambda a: torch.softmax(a, -1)))  # doctest: +ELLIPSIS
    'plain: softmax in step of Elman (...) mixes units, and a kernel computes each unit by itself'
    """
    if get_kernels() == "plain":
        return "plain: asked for"
    why = _fast.supports(cell, torch.empty(0) if xs is None else xs)
    return "fast" if why is None else f"plain: {why}"


def _transformed(
    cell: AbstractCell, xs: Tensor, state: State, stored: LayerParameters, traversal: Traversal, clip: float | None, memory: Memory
) -> tuple[Tensor, State]:
    """The recurrence under torch.compile, torch.func, forward mode, or a mode that sees every operation."""
    parameters = _with_gate_axis(cell, *flat(stored))
    graph = _is_unrolled() or (known(cell) is None and generated.has_vectors(cell))
    if graph or get_kernels() == "plain" or _fast.supports(cell, xs) is not None or (has_own_operations(xs) and not is_fake(xs)):
        refuse_clipped_adjoint(clip)
        return unrolled(cell, xs, state, parameters, traversal)
    keep = memory if torch.is_grad_enabled() or functorch_is_active() else "none"
    return operator(cell, xs, state, parameters, traversal, clip=clip, keep=keep)


def _is_unrolled() -> bool:
    """Whether a transform is active for which an operator has no rule."""
    return forward_mode_is_active() or functionalize_is_active() or _is_traced()


def _is_traced() -> bool:
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: AbstractCell,
        traversal: Traversal,
        clip: float | None,
        keep: _fast.Keep,
        packed: bool,
        S: int,
        xs: Tensor,
        *rest: Any,
    ) -> Any:
        state, stored = rest[:S], rest[S : S + 4]
        parameters = _with_gate_axis(cell, *stored)
        keep = keep if any(ctx.needs_input_grad) else "none"
        if packed:
            run = _fast.forward(cell, xs, state, parameters, traversal, keep=keep, threads=get_threads())
        else:
            run = forward(cell, xs, state, parameters, traversal, clip=clip, keep=keep)
        ctx.kernels, ctx.graph = run.kernels, run.graph
        ctx.cell, ctx.traversal, ctx.clip, ctx.keep, ctx.S, ctx.inputs = cell, traversal, clip, keep, S, len(rest)
        ctx.set_materialize_grads(False)
        if keep != "none":
            ctx.save_for_backward(xs, *rest, run.hs, *run.residuals)
        return run.hs, *run.last

    @staticmethod
    def backward(ctx: Any, dhs: Tensor | None, *dlast: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        S, restarts = ctx.S, len(ctx.traversal.restart or ())
        xs, *saved = ctx.saved_tensors
        state, stored, restart = tuple(saved[:S]), saved[S : S + 4], tuple(saved[S + 4 : S + 4 + restarts])
        vectors, (hs, *residuals) = saved[S + 4 + restarts : ctx.inputs], saved[ctx.inputs :]
        run = Run(hs, (), tuple(residuals), ctx.kernels, ctx.graph)
        traversal = replace(ctx.traversal, restart=restart) if restarts else ctx.traversal
        parameters, needs_dxs = _with_gate_axis(ctx.cell, *stored), ctx.needs_input_grad[6]
        if torch.is_grad_enabled() or any(map(is_batched, (dhs, *dlast))):  # create_graph: this gradient is to be differentiated itself
            d, own = _differentiable(ctx.cell, xs, state, parameters, traversal, vectors, ctx.clip, dhs, dlast)
        else:
            plain = vectors and ctx.kernels != "packed"  # a packed run has its own copy of the vectors
            with generated.with_learned(ctx.cell, vectors) if plain else nullcontext(ctx.cell) as cell:
                d = backward(cell, xs, parameters, run, dhs, dlast, traversal, clip=ctx.clip, needs_dxs=needs_dxs, keep=ctx.keep)
            own = () if d.vectors is None else tuple(map(_summed_to, d.vectors.unbind(), vectors))
        weights = (g if g is None or g.ndim == p.ndim else g.view(p.shape) for p, g in zip(stored, flat(d.parameters), strict=True))
        return None, None, None, None, None, None, d.dxs, *d.dstate, *weights, *(d.drestart or ()), *own


def _differentiable(
    cell: AbstractCell,
    xs: Tensor,
    state: State,
    parameters: LayerParameters,
    traversal: Traversal,
    vectors: Sequence[Tensor],
    clip: float | None,
    dhs: Tensor | None,
    dlast: tuple[Tensor | None, ...],
) -> tuple[Gradients, tuple[Tensor, ...]]:
    """The same gradients, and those of the cell's own vectors, as a differentiable function of everything they depend on."""
    refuse_clipped_adjoint(clip)
    found = pulled_back(cell, named_leaves(xs, state, parameters, traversal.restart, vectors), traversal, dhs, dlast).get
    weights = from_flat(*map(found, Parameters._fields))  # type: ignore[arg-type]
    dstate, drestart = (
        tuple(found(f"{name}.{k}") for k in range(len(s or ()))) for name, s in (("state", state), ("restart", traversal.restart))
    )
    own = tuple(found(f"vector.{k}") for k in range(len(vectors)))
    return Gradients(found("xs"), dstate, weights, drestart or None), own  # type: ignore[arg-type, return-value]


def _summed_to(g: Tensor, vector: Tensor) -> Tensor:
    return g if g.shape == vector.shape else g.sum_to_size(vector.shape)


def _with_gate_axis(cell: AbstractCell, W: Tensor | None, R: Tensor, b_ih: Tensor | None, b_hh: Tensor | None) -> LayerParameters:
    """Views (G, H, ·) of weights that may be stored as (G·H, ·). Inside the autograd function they add no nodes to the graph."""
    if R.ndim == 3 and all(p is None or p.ndim == n for p, n in ((W, 3), (b_ih, 2), (b_hh, 2))):
        return from_flat(W, R, b_ih, b_hh)
    G, rows, H = cell.gates, cell.rh_gates, R.shape[-1]
    return from_flat(
        None if W is None else W.view(G, H, -1),
        R.view(rows, H, H),
        None if b_ih is None else b_ih.view(G, H),
        None if b_hh is None else b_hh.view(rows, H),
    )
