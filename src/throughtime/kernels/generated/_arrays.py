"""Arrays of expressions: what a tensor of a step holds, for one sequence and one unit.

An array has an axis for each of its tensor's. An axis over the batch (``BATCH``) or over the hidden units (``UNITS``) has one entry,
which stands for all; any other axis, such as that over the gates, has all of its entries. An operation that would need more than its own
unit's entry mixes units, and is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from ._expressions import Expression, Table, is_mask
from ._refused import Refused

BATCH, UNITS = "batch", "units"
Label = str | int


@final
@dataclass(frozen=True, eq=False)
class Array:
    """A tensor of expressions.

    Attributes:
        labels: of each axis: BATCH, UNITS or its size.
        entries: an array of objects, 1 long along BATCH and UNITS.
        summed: the tensor is a sum over the batch, of which this holds one sequence's term.
    """

    labels: tuple[Label, ...]
    entries: np.ndarray
    summed: bool = False

    @property
    def ndim(self) -> int:
        return len(self.labels)

    def axis(self, dim: int, more: int = 0) -> int:
        return dim % (self.ndim + more) if self.ndim + more else 0


def scalar(e: Expression) -> Array:
    """An array without axes."""
    entries = np.empty((), dtype=object)
    entries[()] = e
    return Array((), entries)


def filled(labels: Sequence[Label], e: Expression) -> Array:
    """An array with the same entry everywhere."""
    entries = np.empty([1 if isinstance(n, str) else n for n in labels], dtype=object)
    entries.fill(e)
    return Array(tuple(labels), entries)


def _one_label(labels: Sequence[Label]) -> Label:
    wide = {n for n in labels if n != 1}
    if len(wide) > 1:
        raise Refused(f"joins axes of {' and '.join(sorted(map(str, wide)))}")
    return next(iter(wide), 1)


def together(labels: Sequence[tuple[Label, ...]]) -> tuple[Label, ...]:
    """The labels after broadcasting."""
    most = max(map(len, labels))
    full = [(1,) * (most - len(one)) + one for one in labels]
    return tuple(_one_label(axis) for axis in zip(*full, strict=True))


def each(table: Table, operation: str, *arrays: Array) -> Array:
    """An operation entry by entry, with broadcasting."""
    summed = _stays_sum(operation, arrays)
    labels = together([a.labels for a in arrays])
    shape = np.broadcast_shapes(*(a.entries.shape for a in arrays))
    entries = np.empty(shape, dtype=object)
    wide = [np.broadcast_to(a.entries, shape) for a in arrays]
    for place in np.ndindex(*shape):
        given: list[Any] = [a[place] for a in wide]
        entries[place] = table.of(operation, *(_as_kind(table, operation, k, e) for k, e in enumerate(given)))
    return Array(labels, entries, summed)


def as_numbers(table: Table, array: Array) -> Array:
    """The array with 1 and 0 in the place of truth values."""
    entries = np.empty(array.entries.shape, dtype=object)
    for place in np.ndindex(*entries.shape):
        e: Any = array.entries[place]
        entries[place] = table.of("as_number", e) if is_mask(e) else e
    return Array(array.labels, entries, array.summed)


def _as_kind(table: Table, operation: str, k: int, e: Expression) -> Expression:
    """Truth values become numbers where a number is meant, and numbers truth values where one is."""
    wants_mask = operation in ("and", "or", "not") or (operation == "where" and k == 0)
    if wants_mask and not is_mask(e) and not e.is_number:
        return table.of("ne", e, table.number(0))
    return table.of("as_number", e) if is_mask(e) and not wants_mask and operation != "as_number" else e


def _stays_sum(operation: str, arrays: Sequence[Array]) -> bool:
    """Whether the result is a sum over the batch. Only what is linear in a sum may be done to its terms."""
    sums = [a.summed for a in arrays]
    if not any(sums):
        return False
    apart = all(s or BATCH not in a.labels for s, a in zip(sums, arrays, strict=True))
    zeros = lambda a: all(e.equals(0) for e in a.entries.flat)
    linear = (
        (operation in ("add", "sub") and all(s or zeros(a) for s, a in zip(sums, arrays, strict=True)))
        or (operation == "mul" and sum(sums) == 1)
        or (operation == "div" and sums == [True, False])
        or operation == "neg"
        or (operation == "where" and not sums[0] and all(s or zeros(a) for s, a in zip(sums[1:], arrays[1:], strict=True)))
    )
    if not (linear and apart):
        raise Refused("does more with a sum over the batch than scale it")
    return True


def total(table: Table, array: Array, dims: Sequence[int], keep: bool) -> Array:
    """The sum over some axes. That over the batch stays a sum of terms; one over the units is refused."""
    axes = {array.axis(d) for d in dims}
    labels, entries, summed = list(array.labels), array.entries, array.summed
    for axis in sorted(axes, reverse=True):
        if labels[axis] == UNITS:
            raise Refused("sums over the hidden units")
        if labels[axis] == BATCH:
            summed = True
        elif labels[axis] != 1:
            entries = _fold(table, np.moveaxis(entries, axis, 0), axis)
        if keep:
            labels[axis] = 1
        else:
            del labels[axis]
            entries = entries.squeeze(axis)
    return Array(tuple(labels), entries, summed)


def _fold(table: Table, parts: np.ndarray, axis: int) -> np.ndarray:
    result: Any = parts[0]
    for part in parts[1:]:
        both = np.empty(result.shape, dtype=object)
        for place in np.ndindex(*result.shape):
            both[place] = table.of("add", result[place], part[place])
        result = both
    return np.expand_dims(result, axis)


def reshaped(array: Array, labels: Sequence[Label]) -> Array:
    """The same entries with other axes; the batch and the units keep an axis of their own."""
    kept = lambda given: [n for n in given if isinstance(n, str)]
    if kept(array.labels) != kept(labels):
        raise Refused("reshapes the hidden units or the batch together with another axis")
    sizes = [1 if isinstance(n, str) else n for n in labels]
    if int(np.prod(sizes, dtype=int)) != array.entries.size:
        raise Refused("reshapes the hidden units or the batch together with another axis")
    _check_order(array.labels, labels)
    return Array(tuple(labels), array.entries.reshape(sizes), array.summed)


def _check_order(before: Sequence[Label], after: Sequence[Label]) -> None:
    """The entries between two named axes stay between them."""

    def between(labels: Sequence[Label]) -> list[int]:
        sizes = [1]
        for n in labels:
            if isinstance(n, str):
                sizes.append(1)
            else:
                sizes[-1] *= n
        return sizes

    if between(before) != between(after):
        raise Refused("reshapes the hidden units or the batch together with another axis")


def along(array: Array, dim: int, take: Callable[[np.ndarray], Any]) -> np.ndarray:
    """What ``take`` does to the entries along one axis that is neither the batch nor the units."""
    axis = array.axis(dim)
    if isinstance(array.labels[axis], str):
        raise Refused(f"picks single {'sequences' if array.labels[axis] == BATCH else 'hidden units'}")
    return take(np.moveaxis(array.entries, axis, 0))
