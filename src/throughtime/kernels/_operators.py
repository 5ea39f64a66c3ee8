"""The packed kernels as two operators of ``torch.library``, for torch.compile, torch.func and other transforms of graphs.

T time · B batch · I input · H hidden · G gates · S states.

``throughtime::recurrence`` is one layer forward, ``throughtime::recurrence_backward`` the hand-written recursion. Each is one node in
a graph, and each has four registrations: a fake kernel (shapes only), a derivative (for the second operator a differentiable
recomputation, which gives gradients of gradients), a vmap rule (one call for each element, which gives per-sample gradients), and a
formula of its FLOPs.

Optional tensors may be None; the list ``restart`` may be empty. The forward operator returns [hs, *last, residuals]. The backward
operator returns [dxs, *dstate, dW?, dR, db_ih?, db_hh?, *drestart], where dxs may have no elements.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .._shapes import State
from .._torch_private import functorch_is_active
from ..cells import AbstractCell
from . import _fast
from ._choice import get_threads
from ._names import name_of, named
from ._types import LayerParameters, Parameters, Run, Traversal, flat, from_flat
from ._unrolled import named_leaves, pulled_back

_LAYER = (
    "str cell, Tensor xs, Tensor[] state, Tensor? W, Tensor R, Tensor? b_ih, Tensor? b_hh, "
    "Tensor? lengths, Tensor? reset, Tensor[] restart, bool reverse, float? clip, str keep"
)
_library = torch.library.Library("throughtime", "DEF")
_library.define(f"recurrence({_LAYER}) -> Tensor[]", tags=[torch.Tag.pt2_compliant_tag])
_library.define(
    f"recurrence_backward({_LAYER}, Tensor hs, Tensor residuals, Tensor? dhs, Tensor?[] dlast, bool needs_dxs) -> Tensor[]",
    tags=[torch.Tag.pt2_compliant_tag],
)


class _Layer(NamedTuple):
    """The arguments that both operators share, in the order of the schema."""

    cell: str
    xs: Tensor  # (T, B, I), or wx (T, B, G, H)
    state: Sequence[Tensor]
    W: Tensor | None
    R: Tensor
    b_ih: Tensor | None
    b_hh: Tensor | None
    lengths: Tensor | None
    reset: Tensor | None
    restart: Sequence[Tensor]
    reverse: bool
    clip: float | None
    keep: _fast.Keep

    @property
    def parameters(self) -> LayerParameters:
        return from_flat(self.W, self.R, self.b_ih, self.b_hh)

    @property
    def traversal(self) -> Traversal:
        return Traversal(self.lengths, self.reset, tuple(self.restart) or None, self.reverse)

    def leaves(self) -> dict[str, Tensor]:
        return named_leaves(self.xs, tuple(self.state), self.parameters, tuple(self.restart))


_FIELDS = len(_Layer._fields)


def operator(
    cell: AbstractCell, xs: Tensor, state: State, parameters: LayerParameters, traversal: Traversal, *, clip: float | None, keep: _fast.Keep
) -> tuple[Tensor, State]:
    """One layer as a node of the graph; parameters with the gate axis. ``cell`` is one that the kernels support."""
    restart = list(traversal.restart or ())
    layer = _Layer(
        name_of(cell), xs, list(state), *flat(parameters), traversal.lengths, traversal.reset, restart, traversal.reverse, clip, keep
    )
    hs, *last, _ = _call(torch.ops.throughtime.recurrence, _forward_gradient, *layer)
    return hs, tuple(last)


# The forward operator.


def _forward(*arguments: Any) -> list[Tensor]:
    layer = _Layer(*arguments)
    cell = named(layer.cell)
    run = _fast.forward(
        cell, layer.xs, tuple(layer.state), layer.parameters, layer.traversal, keep=layer.keep, clean=True, threads=get_threads()
    )
    residuals = run.residuals[cell.states :] or (layer.xs.new_empty(0),)
    return [run.hs, *run.last, *residuals]


def _forward_fake(*arguments: Any) -> list[Tensor]:
    layer = _Layer(*arguments)
    T, B, H = *layer.xs.shape[:2], layer.R.shape[-1]
    size = _fast.residual_numbers(named(layer.cell), layer.xs.dtype, (T, B, H), layer.keep)
    return [layer.xs.new_empty(T, B, H), *(layer.xs.new_empty(B, H) for _ in layer.state), layer.xs.new_empty(size)]


def _forward_gradient(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    inputs, (hs, *_, residuals) = _restored(ctx)
    layer = _Layer(*inputs)
    dhs, *dlast = grads[: 1 + len(layer.state)]
    needs_dxs = ctx.needs_input_grad[1]
    inputs = (*layer, hs, residuals, dhs, dlast, needs_dxs)
    d = iter(_call(torch.ops.throughtime.recurrence_backward, _backward_gradient, *inputs))
    dxs, dstate = next(d), [next(d) for _ in layer.state]
    weights = [None if p is None else next(d) for p in flat(layer.parameters)]
    return (None, dxs if needs_dxs else None, dstate, *weights, None, None, list(d), None, None, None)


# The backward operator.


def _backward(*arguments: Any) -> list[Tensor]:
    layer, (hs, residuals, dhs, dlast, needs_dxs) = _Layer(*arguments[:_FIELDS]), arguments[_FIELDS:]
    run = Run(hs, (), (*(s.contiguous() for s in layer.state), residuals))
    d = _fast.backward(
        named(layer.cell), layer.xs, layer.parameters, run, dhs, tuple(dlast), layer.traversal, clip=layer.clip, needs_dxs=needs_dxs,
        keep=layer.keep, threads=get_threads(),
    )  # fmt: skip
    dxs = layer.xs.new_empty(0) if d.dxs is None else d.dxs
    return [dxs, *d.dstate, *(p for p in flat(d.parameters) if p is not None), *(d.drestart or ())]


def _backward_fake(*arguments: Any) -> list[Tensor]:
    layer, needs_dxs = _Layer(*arguments[:_FIELDS]), arguments[-1]
    dxs, *others = (p.new_empty(p.shape) for p in layer.leaves().values())
    return [dxs if needs_dxs else layer.xs.new_empty(0), *others]


def _backward_gradient(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """The gradient of ⟨grads, outputs of the backward operator⟩, by a graph of torch's own operations with the same outputs."""
    inputs, _ = _restored(ctx)
    layer, (_, _, dhs, dlast, _) = _Layer(*inputs[:_FIELDS]), inputs[_FIELDS:]
    refuse_clipped_adjoint(layer.clip)
    arriving = {"dhs": dhs} | {f"dlast.{k}": d for k, d in enumerate(dlast)}
    leaves = layer.leaves() | {name: d for name, d in arriving.items() if d is not None}

    def first(given: dict[str, Tensor]) -> dict[str, Tensor]:
        ends = tuple(given.get(f"dlast.{k}") for k in range(len(dlast)))
        own = {name: leaf for name, leaf in given.items() if name not in arriving}
        return pulled_back(named(layer.cell), own, layer.traversal, given.get("dhs"), ends)

    gradients, pull = torch.func.vjp(first, leaves)  # pyright: ignore[reportAssignmentType]
    asked = {name: g for (name, d), g in zip(gradients.items(), grads, strict=True) if g is not None and g.shape == d.shape}
    found = pull({name: asked.get(name, torch.zeros_like(d)) for name, d in gradients.items()})[0].get
    own = (found("xs"), _listed(found, "state", layer.state), *map(found, Parameters._fields), None, None)
    return (None, *own, _listed(found, "restart", layer.restart), *[None] * 5, found("dhs"), _listed(found, "dlast", dlast), None)


def refuse_clipped_adjoint(clip: float | None) -> None:
    """Refuse to differentiate a clipped adjoint."""
    if clip is not None:
        raise NotImplementedError(
            f"clip_adjoint is {clip}: an adjoint that was scaled back at each step is the gradient of nothing: it has no derivative and no "
            "forward mode. Leave clip_adjoint away, or use the first reverse-mode gradient alone."
        )


def _listed(found: Callable[[str], Tensor | None], name: str, like: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [found(f"{name}.{k}") for k in range(len(like))]


# What both operators share.


def _call(op: Callable[..., list[Tensor]], gradient: Callable[..., Any], *inputs: Any) -> Sequence[Tensor]:
    """Call the operator. torch.func ignores derivatives registered with ``torch.library``, so there it is an autograd function."""
    if not functorch_is_active():
        return op(*inputs)
    leaves = _leaves(inputs)
    call = _Call(op, gradient, [_HERE if isinstance(x, Tensor) else x for x in leaves], _structure(inputs))
    return _Node.apply(call, *(x for x in leaves if isinstance(x, Tensor)))  # type: ignore[return-value]


_HERE = object()  # marks the place of a tensor


class _Call(NamedTuple):
    """A call without its tensors."""

    op: Callable[..., list[Tensor]]
    gradient: Callable[..., Any]
    leaves: list[Any]
    structure: Any

    def inputs(self, tensors: Sequence[Tensor]) -> list[Any]:
        rest = iter(tensors)
        return _nested(iter([next(rest) if x is _HERE else x for x in self.leaves]), self.structure)


class _Node(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return tuple(call.op(*call.inputs(tensors)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.call, *tensors = inputs
        _save(ctx, ctx.call.inputs(tensors), list(output))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = _leaves(ctx.call.gradient(ctx, grads))
        return None, *(g for g, x in zip(found, ctx.call.leaves, strict=True) if x is _HERE)


def _save(ctx: Any, inputs: Sequence[Any], output: list[Tensor]) -> None:
    leaves, ctx.structure = _leaves((inputs, output)), _structure((inputs, output))
    ctx.options = [None if isinstance(x, Tensor) else x for x in leaves]
    ctx.save_for_backward(*(x if isinstance(x, Tensor) else None for x in leaves))


def _restored(ctx: Any) -> tuple[list[Any], list[Tensor]]:
    """An operator's inputs and outputs."""
    leaves = [option if tensor is None else tensor for tensor, option in zip(ctx.saved_tensors, ctx.options, strict=True)]
    inputs, output = _nested(iter(leaves), ctx.structure)
    return inputs, output


def _leaves(nested: Any) -> list[Any]:
    """The elements of nested lists, in order."""
    return [leaf for x in nested for leaf in (_leaves(x) if isinstance(x, (list, tuple)) else (x,))]


def _structure(nested: Any) -> list[Any]:
    """The nested lists with None in place of every element."""
    return [_structure(x) if isinstance(x, (list, tuple)) else None for x in nested]


def _nested(leaves: Iterator[Any], structure: list[Any]) -> list[Any]:
    """The leaves in their nested lists; undoes ``_leaves``."""
    return [next(leaves) if x is None else _nested(leaves, x) for x in structure]


def _one_by_one(op: Callable[..., list[Tensor]]) -> Callable[..., tuple[list[Tensor], list[int]]]:
    """The vmap rule: one call for each element of the mapped axis, and the results stacked."""

    def pick(x: Any, dim: Any, k: int) -> Any:
        if isinstance(x, (list, tuple)):
            return [pick(one, d, k) for one, d in zip(x, dim or [None] * len(x), strict=True)]
        return x if dim is None else x.select(dim, k)

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[list[Tensor], list[int]]:
        calls = [op(*(pick(x, dim, k) for x, dim in zip(arguments, in_dims, strict=True))) for k in range(info.batch_size)]
        return [torch.stack(parts) for parts in zip(*calls, strict=True)], [0] * len(calls[0])

    return rule


# FLOPs, as torch counts them: two for each multiplication of a matrix product, none for anything else.


def _forward_flops(*shapes: Any, **_: Any) -> int:
    """2 T B (W + R), in numbers of weights: each product runs over every step of every sequence."""
    layer = _Layer(*shapes)
    return 2 * _size(layer.xs[:2]) * (_size(layer.R) + _size(layer.W))


def _backward_flops(*shapes: Any, **_: Any) -> int:
    """The products of dR and dh, of dW, and of dx if it is asked for."""
    layer, needs_dxs = _Layer(*shapes[:_FIELDS]), shapes[-1]
    return 2 * _size(layer.xs[:2]) * (2 * _size(layer.R) + (2 if needs_dxs else 1) * _size(layer.W))


def _size(shape: Any) -> int:
    return 0 if shape is None else math.prod(shape)


for _name, _kernel, _fake, _gradient, _flops in (
    ("throughtime::recurrence", _forward, _forward_fake, _forward_gradient, _forward_flops),
    ("throughtime::recurrence_backward", _backward, _backward_fake, _backward_gradient, _backward_flops),
):
    _library.impl(_name.split("::")[1], _kernel, "CPU")
    torch.library.register_fake(_name, _fake, lib=_library)
    torch.library.register_autograd(_name, _gradient, setup_context=_save, lib=_library)
    torch.library.register_vmap(_name, _one_by_one(getattr(torch.ops.throughtime, _name.split("::")[1])), lib=_library)
    register_flop_formula(getattr(torch.ops.throughtime, _name.split("::")[1]))(_flops)
