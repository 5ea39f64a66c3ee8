"""What the batches say of themselves: where sequences begin and end, and whether each batch goes on where the last one stopped.

Nothing is claimed from a coincidence: what cannot be told is None, and the caller may say it.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from .._check import InputError
from ._call import Call

STARTS = ("episode_starts", "is_init", "is_first", "starts", "fresh")  # names that mean "the first step of a sequence"
SURE = 1e-4  # the probability of a coincidence that is accepted as none
SMOOTH = 0.25  # a series is smooth if a step changes it by less than this share of its spread, in squares

Reader = Callable[[Any], Any]


def tensors(batch: Any, name: str = "", depth: int = 3) -> Iterator[tuple[str, Tensor]]:
    """Every tensor and array in a batch, with its name."""
    if isinstance(batch, Tensor):
        yield name, batch.detach().cpu()
    elif type(batch).__module__ == "numpy" and hasattr(batch, "dtype") and batch.dtype.kind in "biuf":
        yield name, torch.as_tensor(batch)
    elif depth:
        for key, value in _members(batch):
            yield from tensors(value, key, depth - 1)


def _members(batch: Any) -> list[tuple[str, Any]]:
    if isinstance(batch, Mapping) or (hasattr(batch, "keys") and hasattr(batch, "__getitem__")):
        return [(str(key), batch[key]) for key in batch.keys()]
    if is_dataclass(batch) and not isinstance(batch, type):
        return [(f.name, getattr(batch, f.name)) for f in fields(batch)]
    names = getattr(batch, "_fields", None)
    if isinstance(batch, (list, tuple)):
        return list(zip(names or map(str, range(len(batch))), batch, strict=True))
    return []


def lengths_of(batch: Any, xs: Tensor, reader: Reader | None) -> Tensor | None:
    """(B,) the steps of each sequence, as the caller reads them; else found in the batch and confirmed by a constant padding of ``xs``."""
    T, B = xs.shape[:2]
    if reader is not None:
        found = torch.as_tensor(reader(batch)).cpu().reshape(-1).long()
        if len(found) != B or not bool(((found >= 0) & (found <= T)).all()):
            raise InputError(
                f"lengths gives {found.tolist()[:8]} for a batch of B = {B} sequences of T = {T} steps; expected B numbers of 0..{T}."
            )
        return found
    for _, t in tensors(batch):
        for lengths in (_as_lengths(t, T, B), _as_mask(t, T, B), _as_mask(t.T, T, B) if t.ndim == 2 else None):
            if lengths is not None and bool((lengths < T).any()) and _is_constant_after(xs, lengths):
                return lengths
    return None


def _as_lengths(t: Tensor, T: int, B: int) -> Tensor | None:
    if t.shape != (B,) or t.is_floating_point() or t.dtype == torch.bool or int(t.min()) < 1 or int(t.max()) != T:
        return None
    return t.long()


def _as_mask(t: Tensor, T: int, B: int) -> Tensor | None:
    """(B,) from a mask (T, B) of ones followed by zeros."""
    if t.shape != (T, B) or not bool(((t == 0) | (t == 1)).all()):
        return None
    lengths = t.long().sum(0)
    return lengths if bool((t.bool() == padding_mask(lengths, T).logical_not()).all()) else None


def padding_mask(lengths: Tensor, T: int) -> Tensor:
    """(T, B) True after the end of a sequence."""
    return torch.arange(T).unsqueeze(1) >= lengths


def _is_constant_after(xs: Tensor, lengths: Tensor) -> bool:
    padded = xs.detach().cpu()[padding_mask(lengths, len(xs))]
    return bool((padded == padded[0]).all())


def starts_of(batch: Any, T: int, B: int, reader: Reader | None) -> Tensor | None:
    """(T, B) bool: True at the first step of a sequence; (B,) means: before the first step."""
    if reader is not None:
        found = torch.as_tensor(reader(batch)).cpu()
    else:
        found = next((t for name, t in tensors(batch) if name in STARTS), None)
    if found is None:
        return None
    found = found.squeeze(-1).bool() if found.ndim == 3 else found.bool()
    if found.shape == (B,):
        return torch.cat((found.unsqueeze(0), torch.zeros(T - 1, B, dtype=torch.bool)))
    if found.shape in ((T, B), (B, T)):
        return found if found.shape == (T, B) else found.T
    if reader is not None:
        raise InputError(f"starts gives a tensor of shape {tuple(found.shape)}; expected ({T}, {B}), ({B}, {T}) or ({B},): steps, rows.")
    return None


def are_shuffled(batches: Any) -> bool:
    """Whether a DataLoader of torch draws the rows of its batches at random, so that none goes on where another ended."""
    if not isinstance(batches, DataLoader):
        return False
    samplers = (batches.sampler, getattr(batches.batch_sampler, "sampler", None))
    return any(isinstance(sampler, (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)) for sampler in samplers)


def goes_on(batches: Sequence[Any], T: int, B: int) -> bool | None:
    """Whether each batch begins where the one before it ended. None: the batches do not say.

    A series in a batch may have more than the layer's T steps, which a convolution before it has used up.
    """
    leaves = [dict(tensors(batch)) for batch in batches]
    if len(leaves) < 2 or any(one.keys() != leaves[0].keys() for one in leaves):
        return None
    series = [[_readings(one[name], T, B) for one in leaves] for name in leaves[0]]
    whole = [list(xs) for readings in series for xs in zip(*readings, strict=False)]
    answers = [_by_targets(a, b) for a in whole for b in whole if a is not b]
    answers += [_by_smoothness(xs) for xs in whole if xs[0].is_floating_point()]
    said = [answer for answer in answers if answer is not None]
    return said[0] if said and all(answer == said[0] for answer in said) else None


def _readings(t: Tensor, T: int, B: int) -> list[Tensor]:
    """What a tensor may be as (T, B, ·): a series of vectors may have more steps, and targets are often flat."""
    if t.shape == (T * B,) and not t.is_floating_point():
        return [t.view(T, B, 1), t.view(B, T, 1).transpose(0, 1)]
    if t.shape[:2] == (B, T) or (t.ndim == 3 and t.shape[0] == B and t.shape[1] >= T):
        return [t.transpose(0, 1).reshape(t.shape[1], B, -1)]
    if t.shape[:2] == (T, B) or (t.ndim == 3 and t.shape[1] == B and t.shape[0] >= T):
        return [t.reshape(len(t), B, -1)]
    return []


def _by_targets(xs: list[Tensor], ys: list[Tensor]) -> bool | None:
    """If y_t = x_{t+1} inside of every batch, does y's last step equal x's first one of the next batch?"""
    if any(
        x.shape != y.shape or x.dtype != y.dtype or len(x) < 2 or not bool((x[1:] == y[:-1]).all()) for x, y in zip(xs, ys, strict=True)
    ):
        return None
    met = torch.cat([(y[-1] == x[0]).all(1) for x, y in zip(xs[1:], ys, strict=False)])
    _, counts = torch.cat([x.flatten(0, 1) for x in xs]).unique(dim=0, return_counts=True)
    by_chance = float((counts.double() / counts.sum()).square().sum())
    if bool(met.all()):
        return True if len(met) * math.log(max(by_chance, 1e-300)) < math.log(SURE) else None
    return False if float(met.double().mean()) < 0.5 and by_chance < 0.25 else None


def _is_next(x: Tensor, y: Tensor) -> bool:
    """Whether y_t = x_{t+1}."""
    return x.shape == y.shape and x.dtype == y.dtype and len(x) > 1 and bool((x[1:] == y[:-1]).all())


def _by_smoothness(xs: list[Tensor]) -> bool | None:
    """Where a series is smooth, is the step from one batch to the next like a step inside of one?"""
    every = torch.cat([x.double() for x in xs], 1)
    spread = 2 * every.flatten(0, 1).var(0, correction=0).sum()
    inside = torch.cat([(x[1:].double() - x[:-1].double()).square().sum(2).flatten() for x in xs])
    between = torch.cat([(b[0].double() - a[-1].double()).square().sum(1) for a, b in itertools.pairwise(xs)])
    if len(xs[0]) < 4 or len(between) < 6 or not inside.mean() < SMOOTH * spread:
        return None
    ratio = float(between.mean() / spread)
    most = float(inside.sort().values[int(0.99 * (len(inside) - 1))])
    if float(between.median()) <= most and ratio < 2 * SMOOTH:
        return True
    return False if ratio > 2 * SMOOTH and float(between.median()) > most else None


def positions(calls: Sequence[Call]) -> list[tuple[Call, int]]:
    """Every step of a layer within one training step: the call, and the step in it."""
    return [(c, t) for c in calls for t in range(c.T)]
