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
    found: Any = cell.__dict__.get("_parameters", {}).get(name)  # a module's own way there takes longer
    if found is not None:
        return found
    found = cell
    for part in name.split("."):
        found = getattr(found, part)
    return found


def tensors_of(cell: AbstractCell, names: Sequence[str]) -> tuple[Tensor, ...]:
    """Vectors by their names."""
    return tuple([tensor_of(cell, name) for name in names])


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


def vector_gradients(
    cell: AbstractCell, wx: Tensor, rh: Tensor, state: tuple[Tensor, ...], dstate: Sequence[Tensor], dbetween: Tensor | None = None
) -> Tensor:
    """The gradients of a cell's learned vectors, (L, H), summed over N points, given those of the states after the step.

    Args:
        cell: the step.
        wx: (N, G, H); ``rh`` (N, rows of R, H), ``state`` S tensors (N, H).
        rh: see above.
        state: see above.
        dstate: S tensors (N, H).
        dbetween: (N, H) of what its late gates multiply; None for a cell without.
    """
    learned = [v for v in vectors_of(cell) if v.learned]
    with torch.enable_grad():
        leaves = [v.tensor.detach().to(wx.dtype).expand(wx.shape[-1]).clone().requires_grad_() for v in learned]
        with replaced(cell, [v.name for v in learned], leaves) as own:
            pairs = list(zip(own.step(wx, rh, state), dstate, strict=True))
            if dbetween is not None:
                pairs.append((own.between(wx, rh[:, : cell.rh_gates - cell.late_gates], state), dbetween))
        graded = [(y, d) for y, d in pairs if y.requires_grad]
        ys, ds = [y for y, _ in graded], [d for _, d in graded]
        return torch.stack(torch.autograd.grad(ys, leaves, ds, materialize_grads=True, allow_unused=True))


def vector_derivatives(cell: AbstractCell, wx: Tensor, rh: Tensor, state: tuple[Tensor, ...]) -> Tensor:
    """∂s'/∂v at N points, (S, L, N, H): the derivatives of the states after an elementwise step by its learned vectors."""
    learned = [v for v in vectors_of(cell) if v.learned]
    S, (N, H) = cell.states, state[0].shape
    if not learned:
        return wx.new_zeros(S, 0, N, H)
    names, tensors = [v.name for v in learned], [v.tensor.detach().to(wx.dtype).expand(H).clone() for v in learned]

    def at_one(p: int) -> Any:
        def summed(vectors: list[Tensor], *given: Tensor) -> Tensor:
            with replaced(cell, names, vectors) as own:
                return own.step(given[0][None], given[1][None], tuple(s[None] for s in given[2:]))[p].sum()

        return torch.func.vmap(torch.func.grad(summed), (None, *[0] * (2 + S)))

    return torch.stack([torch.stack(at_one(p)(tensors, wx, rh, *state)) for p in range(S)])
