"""The vectors that a cell has of its own: learned ones, such as time constants, and fixed ones, such as masks.

They are the parameters and buffers of a cell that is an ``nn.Module``, or the tensors among the fields of one that is a dataclass. Each
has shape (H,) or ().
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...cells import AbstractCell
from ._refused import Refused


class Vector(NamedTuple):
    """One of a cell's own vectors."""

    name: str
    tensor: Tensor
    learned: bool


def vectors_of(cell: AbstractCell) -> list[Vector]:
    """A cell's own vectors, the learned ones first."""
    if isinstance(cell, nn.Module):
        named = [*cell.named_parameters(), *cell.named_buffers()]
    else:
        named = [(name, value) for name, value in getattr(cell, "__dict__", {}).items() if isinstance(value, Tensor)]
    found = [Vector(name, value, value.requires_grad) for name, value in named]
    return sorted(found, key=lambda v: not v.learned)


def tensor_of(cell: AbstractCell, name: str) -> Tensor:
    """A vector by its name."""
    found: Any = cell
    for part in name.split("."):
        found = getattr(found, part)
    return found


def check(cell: AbstractCell, vectors: Sequence[Vector]) -> None:
    """Refuse what has no place in a kernel."""
    for v in vectors:
        if v.tensor.ndim > 1:
            raise Refused(f"{v.name} of the cell has shape {tuple(v.tensor.shape)}, and a kernel takes vectors (H,) alone")
        if not v.tensor.is_floating_point() and v.tensor.dtype != torch.bool:
            raise Refused(f"{v.name} of the cell is {v.tensor.dtype}, and a kernel takes numbers of its own type alone")


@contextmanager
def with_learned(cell: AbstractCell, tensors: Sequence[Tensor]) -> Iterator[AbstractCell]:
    """The cell with other tensors in the place of its learned vectors."""
    names = [v.name for v in vectors_of(cell) if v.learned] if tensors else []
    with replaced(cell, names, tensors) as own:
        yield own


@contextmanager
def replaced(cell: AbstractCell, names: Sequence[str], tensors: Sequence[Tensor]) -> Iterator[AbstractCell]:
    """The cell with other tensors in the place of its own."""
    if not names:
        yield cell
    elif isinstance(cell, nn.Module):
        owners = [(cell.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names]
        kept = [owner.__dict__["_parameters"].get(n, owner.__dict__["_buffers"].get(n)) for owner, n in owners]
        _put(owners, tensors)
        try:
            yield cell
        finally:
            _put(owners, kept)
    else:
        other = copy.copy(cell)
        for name, tensor in zip(names, tensors, strict=True):
            object.__setattr__(other, name, tensor)
        yield other


def _put(owners: Sequence[tuple[nn.Module, str]], tensors: Sequence[Tensor | None]) -> None:
    for (owner, name), tensor in zip(owners, tensors, strict=True):
        place = owner.__dict__["_parameters" if name in owner.__dict__["_parameters"] else "_buffers"]
        place[name] = tensor
