"""torch's operators on arrays of expressions: a table from the name of an operator to what it does."""

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import torch

from ._arrays import BATCH, UNITS, Array, Label, along, as_numbers, each, filled, reshaped, scalar, together, total
from ._expressions import Expression, Table, is_mask
from ._refused import Refused


@final
class Machine:
    """Computes with arrays in place of tensors.

    Args:
        table: of the expressions.
        B: the batch size and
        H: the number of hidden units of the tensors that were traced; no other size is equal to them.
        dtype: theirs.
    """

    def __init__(self, table: Table, B: int, H: int, dtype: torch.dtype) -> None:
        self.table, self.B, self.H, self.dtype = table, B, H, dtype

    def call(self, name: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """The result of an operator."""
        if name in _ELEMENTWISE:
            return self.each(_ELEMENTWISE[name], *arguments)
        if name not in _BY_NAME:
            raise Refused("works in place" if name.endswith("_") else "is not one that a kernel can be written for")
        return _BY_NAME[name](self, *arguments, **options)

    def array(self, x: Any) -> Array:
        if isinstance(x, Array):
            return x
        if isinstance(x, (bool, int, float)):
            return scalar(self.table.number(float(x)))
        raise Refused(f"has an argument {x!r}")

    def each(self, operation: str, *arguments: Any) -> Array:
        return each(self.table, operation, *map(self.array, arguments))

    def label(self, size: int) -> Label:
        return BATCH if size == self.B else UNITS if size == self.H else size

    def full(self, sizes: Sequence[int], value: Any) -> Array:
        return filled([self.label(n) for n in sizes], self.table.number(float(value)))

    def expanded(self, array: Array, sizes: Sequence[int]) -> Array:
        kept = (*(None for _ in range(len(sizes) - array.ndim)), *array.labels)
        labels = [old if n == -1 and old is not None else self.label(n) for n, old in zip(sizes, kept, strict=True)]
        shape = [1 if isinstance(n, str) else n for n in labels]
        return Array(together([array.labels, tuple(labels)]), np.broadcast_to(array.entries, shape), array.summed)


def _view(m: Machine, x: Array, sizes: Sequence[int]) -> Array:
    labels = [m.label(n) for n in sizes]
    if -1 in labels:
        known = int(np.prod([n for n in labels if isinstance(n, int) and n != -1], dtype=int))
        missing = [n for n in (BATCH, UNITS) if n in x.labels and n not in labels]
        labels[labels.index(-1)] = missing[0] if missing else x.entries.size // known
    return reshaped(x, labels)


def _select(m: Machine, x: Array, dim: int, index: int) -> Array:
    axis = x.axis(dim)
    return Array(x.labels[:axis] + x.labels[axis + 1 :], along(x, dim, lambda e: e[index]), x.summed)


def _slice(m: Machine, x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    axis = x.axis(dim)
    size = {BATCH: m.B, UNITS: m.H}.get(str(x.labels[axis]))
    if size is not None and (start or 0) == 0 and (end is None or end >= size) and step == 1:
        return x
    entries = np.moveaxis(along(x, dim, lambda e: e[start:end:step]), 0, axis)
    return Array((*x.labels[:axis], entries.shape[axis], *x.labels[axis + 1 :]), entries, x.summed)


def _split(m: Machine, x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    ends = np.cumsum(sizes).tolist()
    return [_slice(m, x, dim, end - n, end) for n, end in zip(sizes, ends, strict=True)]


def _split_evenly(m: Machine, x: Array, size: int, dim: int = 0) -> list[Array]:
    count = along(x, dim, lambda e: e).shape[0]
    return _split(m, x, [min(size, count - k) for k in range(0, count, size)], dim)


def _unbind(m: Machine, x: Array, dim: int = 0) -> list[Array]:
    return [_select(m, x, dim, k) for k in range(along(x, dim, lambda e: e).shape[0])]


def _unsqueeze(m: Machine, x: Array, dim: int) -> Array:
    axis = x.axis(dim, 1)
    return Array((*x.labels[:axis], 1, *x.labels[axis:]), np.expand_dims(x.entries, axis), x.summed)


def _squeeze(m: Machine, x: Array, dims: int | Sequence[int] | None = None) -> Array:
    given = range(x.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = {x.axis(d) for d in given if x.labels[x.axis(d)] == 1}
    return Array(tuple(n for k, n in enumerate(x.labels) if k not in axes), x.entries.squeeze(tuple(axes)), x.summed)


def _permute(m: Machine, x: Array, dims: Sequence[int]) -> Array:
    axes = [x.axis(d) for d in dims]
    return Array(tuple(x.labels[a] for a in axes), x.entries.transpose(axes), x.summed)


def _transpose(m: Machine, x: Array, one: int, other: int) -> Array:
    axes = list(range(x.ndim))
    axes[x.axis(one)], axes[x.axis(other)] = axes[x.axis(other)], axes[x.axis(one)]
    return _permute(m, x, axes)


def _cat(m: Machine, arrays: Sequence[Array], dim: int = 0) -> Array:
    axis = arrays[0].axis(dim)
    for a in arrays:
        along(a, dim, lambda e: e)
    others = [(*a.labels[:axis], 1, *a.labels[axis + 1 :]) for a in arrays]
    labels = together(others)
    shape = tuple(1 if isinstance(n, str) else n for n in labels)
    wide = [np.broadcast_to(a.entries, (*shape[:axis], a.entries.shape[axis], *shape[axis + 1 :])) for a in arrays]
    entries = np.concatenate(wide, axis)
    return Array((*labels[:axis], entries.shape[axis], *labels[axis + 1 :]), entries, any(a.summed for a in arrays))


def _stack(m: Machine, arrays: Sequence[Array], dim: int = 0) -> Array:
    return _cat(m, [_unsqueeze(m, a, dim) for a in arrays], dim)


def _select_backward(m: Machine, d: Array, sizes: Sequence[int], dim: int, index: int) -> Array:
    zeros = m.full(sizes, 0)
    axis = zeros.axis(dim)
    along(zeros, dim, lambda e: e)
    entries = zeros.entries.copy()
    np.moveaxis(entries, axis, 0)[index] = d.entries
    return Array(zeros.labels, entries, d.summed)


def _slice_backward(m: Machine, d: Array, sizes: Sequence[int], dim: int, start: int, end: int, step: int) -> Array:
    zeros = m.full(sizes, 0)
    if isinstance(zeros.labels[zeros.axis(dim)], str):
        return d if start == 0 and step == 1 else _mixes(m)
    entries = zeros.entries.copy()
    np.moveaxis(entries, zeros.axis(dim), 0)[start:end:step] = np.moveaxis(d.entries, zeros.axis(dim), 0)
    return Array(zeros.labels, entries, d.summed)


def _sum(m: Machine, x: Array, dims: Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None) -> Array:
    return total(m.table, x, range(x.ndim) if not dims else dims, keepdim)


def _mean(m: Machine, x: Array, dims: Sequence[int], keepdim: bool = False, *, dtype: Any = None) -> Array:
    count = int(np.prod([along(x, d, lambda e: e).shape[0] for d in dims], dtype=int))
    return m.each("div", _sum(m, x, dims, keepdim), count)


def _flip(m: Machine, x: Array, dims: Sequence[int]) -> Array:
    for d in dims:
        along(x, d, lambda e: e)
    return Array(x.labels, np.flip(x.entries, tuple(x.axis(d) for d in dims)), x.summed)


def _add(m: Machine, a: Any, b: Any, *, alpha: float = 1) -> Array:
    return m.each("add", a, b if alpha == 1 else m.each("mul", b, alpha))


def _sub(m: Machine, a: Any, b: Any, *, alpha: float = 1) -> Array:
    return m.each("sub", a, b if alpha == 1 else m.each("mul", b, alpha))


def _rsub(m: Machine, a: Any, b: Any, alpha: float = 1) -> Array:
    return _sub(m, b, a, alpha=alpha)


def _clamp(m: Machine, x: Array, least: Any = None, most: Any = None) -> Array:
    x = x if least is None else m.each("maximum", x, least)
    return x if most is None else m.each("minimum", x, most)


def _tanh_backward(m: Machine, d: Array, y: Array) -> Array:
    return m.each("mul", d, m.each("sub", 1, m.each("mul", y, y)))


def _sigmoid_backward(m: Machine, d: Array, y: Array) -> Array:
    return m.each("mul", d, m.each("mul", y, m.each("sub", 1, y)))


def _threshold_backward(m: Machine, d: Array, x: Array, threshold: float) -> Array:
    return m.each("where", m.each("le", x, threshold), 0, d)


def _convert(m: Machine, x: Array, *, dtype: torch.dtype | None = None, **_: Any) -> Array:
    if dtype is None or dtype == m.dtype:
        return as_numbers(m.table, x)
    if dtype == torch.bool:
        return m.each("ne", x, 0)
    if all(is_mask(e) or e.is_number for e in x.entries.flat):
        return as_numbers(m.table, x)  # exact in any type
    raise Refused(f"changes the type to {dtype}")


def _addcmul(m: Machine, x: Array, a: Any, b: Any, *, value: float = 1) -> Array:
    return _add(m, x, m.each("mul", a, b), alpha=value)


def _addcdiv(m: Machine, x: Array, a: Any, b: Any, *, value: float = 1) -> Array:
    return _add(m, x, m.each("div", a, b), alpha=value)


def _lerp(m: Machine, a: Array, b: Array, weight: Any) -> Array:
    return _add(m, a, m.each("mul", weight, m.each("sub", b, a)))


def _elu(m: Machine, x: Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Array:
    below = m.each("mul", scale * alpha, m.each("expm1", m.each("mul", input_scale, x)))
    return m.each("where", m.each("gt", x, 0), m.each("mul", scale, x), below)


def _gelu(m: Machine, x: Array, *, approximate: str = "none") -> Array:
    if approximate == "none":
        slope = m.each("erf", m.each("mul", x, 0.5**0.5))
    else:
        cubed = m.each("mul", m.each("mul", x, x), x)
        slope = m.each("tanh", m.each("mul", (2 / np.pi) ** 0.5, m.each("add", x, m.each("mul", 0.044715, cubed))))
    return m.each("mul", m.each("mul", 0.5, x), m.each("add", 1, slope))


def _leaky_relu(m: Machine, x: Array, slope: float = 0.01) -> Array:
    return m.each("where", m.each("gt", x, 0), x, m.each("mul", slope, x))


def _copy(m: Machine, x: Array, y: Array, *_: Any) -> Array:
    together([x.labels, y.labels])
    return Array(x.labels, np.broadcast_to(y.entries, x.entries.shape), y.summed)


def _arange(m: Machine, *limits: float, **_: Any) -> Array:
    values = np.arange(*limits)
    entries = np.empty(len(values), dtype=object)
    entries[:] = [m.table.number(float(v)) for v in values]
    return Array((len(values),), entries)


def _mixes(m: Machine, *_: Any, **__: Any) -> Array:
    raise Refused("mixes units")


def _same(m: Machine, x: Array, *_: Any, **__: Any) -> Array:
    return x


def _like(value: float) -> Callable[..., Array]:
    return lambda m, x, *_, **__: filled(x.labels, m.table.number(value))


_ELEMENTWISE = {
    "mul": "mul", "div": "div", "neg": "neg", "abs": "abs", "sign": "sign", "sgn": "sign", "exp": "exp", "tanh": "tanh",
    "sigmoid": "sigmoid", "relu": "relu", "log": "log", "log1p": "log1p", "expm1": "expm1", "sin": "sin", "cos": "cos", "tan": "tan",
    "asin": "asin", "acos": "acos", "atan": "atan", "sinh": "sinh", "cosh": "cosh", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh",
    "erf": "erf", "erfc": "erfc", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "round",
    "maximum": "maximum", "minimum": "minimum", "clamp_min": "maximum", "clamp_max": "minimum", "pow": "pow", "atan2": "atan2",
    "lt": "lt", "le": "le", "gt": "gt", "ge": "ge", "eq": "eq", "ne": "ne", "where": "where",
    "logical_and": "and", "logical_or": "or", "logical_not": "not", "bitwise_and": "and", "bitwise_or": "or", "bitwise_not": "not",
}  # fmt: skip

_BY_NAME: dict[str, Callable[..., Any]] = {
    "add": _add, "sub": _sub, "rsub": _rsub, "clamp": _clamp, "addcmul": _addcmul, "addcdiv": _addcdiv, "lerp": _lerp, "copy": _copy,
    "elu": _elu, "gelu": _gelu, "leaky_relu": _leaky_relu, "hardtanh": lambda m, x, least=-1, most=1: _clamp(m, x, least, most),
    "tanh_backward": _tanh_backward, "sigmoid_backward": _sigmoid_backward, "threshold_backward": _threshold_backward,
    "reciprocal": lambda m, x: m.each("div", 1, x), "rsqrt": lambda m, x: m.each("div", 1, m.each("sqrt", x)),
    "square": lambda m, x: m.each("mul", x, x), "log2": lambda m, x: m.each("mul", m.each("log", x), 1 / np.log(2.0)),
    "isnan": lambda m, x: m.each("ne", x, x), "clone": _same, "alias": _same, "detach": _same, "contiguous": _same,
    "lift_fresh_copy": _same, "lift_fresh": _same, "_to_copy": _convert, "view": _view, "_unsafe_view": _view, "reshape": _view,
    "select": _select, "slice": _slice, "split": _split_evenly, "split_with_sizes": _split, "unbind": _unbind,
    "unsqueeze": _unsqueeze, "squeeze": _squeeze, "permute": _permute, "transpose": _transpose, "cat": _cat, "stack": _stack,
    "expand": lambda m, x, sizes, **_: m.expanded(x, sizes), "select_backward": _select_backward, "slice_backward": _slice_backward,
    "sum": _sum, "mean": _mean, "flip": _flip, "arange": _arange, "full": lambda m, sizes, value, **_: m.full(sizes, value),
    "zeros": lambda m, sizes, **_: m.full(sizes, 0), "ones": lambda m, sizes, **_: m.full(sizes, 1),
    "new_zeros": lambda m, x, sizes, **_: m.full(sizes, 0), "new_ones": lambda m, x, sizes, **_: m.full(sizes, 1),
    "new_full": lambda m, x, sizes, value, **_: m.full(sizes, value), "zeros_like": _like(0.0), "ones_like": _like(1.0),
    "full_like": lambda m, x, value, **_: filled(x.labels, m.table.number(float(value))),
    "scalar_tensor": lambda m, value, **_: m.array(value),
}  # fmt: skip


def expressions(array: Array) -> list[Expression]:
    """Every entry."""
    return list(array.entries.flat)
