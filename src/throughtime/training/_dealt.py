"""What of a run's state is every rank's own: gathered when it is saved, dealt when it is loaded, to as many ranks as before or to others.

Streams lie side by side in the carry, rank by rank, so that the saved state has the form that one process would have saved. What a method
keeps that cannot be taken apart by streams is saved for each rank, and goes on with as many ranks only. Generators are every rank's own.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from safetensors.torch import load
from torch import Tensor

from .._check import InputError
from ..gradients import AbstractGradient, Carry
from ._files import as_bytes
from ._generators import set_generator_states
from ._ranks import Ranks
from ._state import Loaded


class Gathered(NamedTuple):
    """Of all ranks together, as ``save_state`` takes it."""

    carry: Carry | None
    own: dict[str, Tensor]


def gathered(ranks: Ranks, carry: Carry | None, generators: Mapping[str, Tensor], method: AbstractGradient) -> Gathered:
    """Called by every rank; what it returns is whole on the first."""
    if ranks.size == 1:
        return Gathered(carry, {})
    parts = [load(part) for part in ranks.gather(lambda: _part(carry, generators))]
    own = {f"{r}.{name}": part[name] for r, part in enumerate(parts) if r for name in part if name.startswith("generator.")}
    if carry is None or not ranks.first:
        return Gathered(None, own)
    state, axis = tuple(_joined(parts, f"state.{i}", 1) for i in range(len(carry.state))), method.streams_axis
    if axis is not None:
        return Gathered(Carry(state, {name: _joined(parts, f"kept.{name}", axis) for name in carry.kept}, carry.made_by), own)
    own |= {f"{r}.kept.{name}": part[f"kept.{name}"] for r, part in enumerate(parts) for name in carry.kept}
    return Gathered(Carry(state, {}, carry.made_by), own)


def dealt(ranks: Ranks, loaded: Loaded, typed: AbstractGradient, seed: int) -> Carry | None:
    """This rank's part of a saved carry; its generators are set.

    Args:
        ranks: those that go on.
        loaded: from the file.
        typed: the gradient method, as its user wrote it.
        seed: the run's.

    Raises:
        InputError: the method keeps what cannot be dealt anew, and the number of ranks is another one.
    """
    carry, saved_by = loaded.carry, loaded.progress.ranks
    if ranks.size == saved_by == 1:
        return carry
    _set_generators(ranks, loaded, seed)
    if carry is None:
        return None
    mine = {name.removeprefix(f"{ranks.rank}.kept."): v for name, v in loaded.own.items() if name.startswith(f"{ranks.rank}.kept.")}
    apart = any(".kept." in name for name in loaded.own) or (bool(carry.kept) and typed.streams_axis is None)
    if apart and ranks.size != saved_by:
        raise InputError(
            f"the run was saved by {_processes(saved_by)} with {typed!r}, which keeps more of its streams than can be dealt anew; it is to "
            f"go on with {_processes(ranks.size)}, expected {saved_by}. Start as many."
        )
    axis, device = typed.streams_axis, carry.state[0].device
    kept = {name: v.to(device) for name, v in mine.items()} if axis is None else {k: _slice(v, axis, ranks) for k, v in carry.kept.items()}
    made_by = ranks.method(typed).carry_owner if carry.made_by == typed.carry_owner else carry.made_by
    return Carry(tuple(_slice(s, 1, ranks) for s in carry.state), kept, made_by)


def _set_generators(ranks: Ranks, loaded: Loaded, seed: int) -> None:
    """Those of the first have been set; a rank that was not there before begins with a seed of its own."""
    prefix = f"{ranks.rank}.generator."
    mine = {name.removeprefix(prefix): state for name, state in loaded.own.items() if name.startswith(prefix)}
    if mine:
        set_generator_states(mine)
    elif not ranks.first:
        torch.manual_seed(ranks.seed(seed, loaded.progress.step))


def _part(carry: Carry | None, generators: Mapping[str, Tensor]) -> bytes:
    """What one rank has."""
    tensors = {f"generator.{name}": state for name, state in generators.items()}
    if carry is not None:
        tensors |= {f"state.{i}": s for i, s in enumerate(carry.state)} | {f"kept.{name}": v for name, v in carry.kept.items()}
    return as_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def _joined(parts: Sequence[Mapping[str, Tensor]], name: str, axis: int) -> Tensor:
    return torch.cat([part[name] for part in parts], axis)


def _slice(whole: Tensor, axis: int, ranks: Ranks) -> Tensor:
    """This rank's streams."""
    each = whole.shape[axis] // ranks.size
    return whole.narrow(axis, ranks.rank * each, each).contiguous()


def _processes(number: int) -> str:
    return "one process" if number == 1 else f"{number} processes"
