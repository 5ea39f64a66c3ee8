"""How long a gradient method will take, before it is asked: two short calls are timed, and the operations counted up to the whole batch.

    seconds(T) ≈ s₁ + (s₂ − s₁) (work(T) − work(T₁)) / (work(T₂) − work(T₁))     (1)    s_i of T_i steps; then as many times as streams
    work(T) = T, or Σ_t min(t, k) where every loss goes back k steps             (2)

T time · B batch · H hidden · S states · P parameters of the recurrence.
"""

import time
from dataclasses import dataclass, replace
from typing import final

import torch

from ..data import Batch
from ..gradients import RTRL, AbstractGradient, AdaptiveBPTT, BlockRTRL, SlidingBPTT, SnAp
from ..models import AbstractModel

_SHORT = (2, 6)  # steps of the calls that are timed
_LIGHT = 3e8  # multiplications of a call that takes a fraction of a second
_RATE = 1e10  # multiplications a second, where even a short call is too long to be tried


@final
@dataclass(frozen=True)
class Estimate:
    """What one call of a method will take."""

    seconds: float
    bytes: int  # of what the method keeps beside a backward pass


def estimate(model: AbstractModel, batch: Batch, method: AbstractGradient) -> Estimate:
    """What ``method.accumulate(model, batch)`` will take, to a small factor; the model's gradients are cleared.

    Raises:
        InputError, NotImplementedError: the method refuses the model or the batch.
    """
    T, B = batch.T, batch.B
    kept = influence_numbers(model, method) * B * next(model.parameters()).element_size()
    dense = _multiplications(model, method)
    if dense > _LIGHT:
        return Estimate(dense * work(method, T) * B / _RATE, kept)
    T_1, T_2 = (min(T, short) for short in _SHORT)
    B_0 = max(1, min(B, int(_LIGHT / max(dense, 1) / T_2)))
    s_1, s_2 = (_timed(model, _first(batch, steps, B_0), method) for steps in (T_1, T_2))
    more = (work(method, T) - work(method, T_1)) / max(1, work(method, T_2) - work(method, T_1))
    return Estimate(max(s_2, s_1 + (s_2 - s_1) * more) * B / B_0, kept)  # (1)


def work(method: AbstractGradient, T: int) -> int:
    """(2)"""
    match method:
        case SlidingBPTT():
            lags = method.lags
        case AdaptiveBPTT():
            lags = method.max_lags
        case _:
            return T
    short = min(T, lags)
    return short * (short + 1) // 2 + (T - short) * lags


def _timed(model: AbstractModel, batch: Batch, method: AbstractGradient) -> float:
    """The shorter of two calls: the first one may build what the second finds."""
    seconds = []
    with torch.random.fork_rng():
        for _ in range(2):
            started = time.perf_counter()
            method.accumulate(model, batch)
            seconds.append(time.perf_counter() - started)
    model.zero_grad()
    return min(seconds)


def _first(batch: Batch, T: int, B: int) -> Batch:
    """The first steps of the first streams."""
    cut = batch.steps(0, T)
    streams = {name: value[:, :B] for name, value in vars(cut).items() if value is not None and name != "fresh"}
    return replace(cut, **streams, fresh=None if cut.fresh is None else cut.fresh[:B])


def _multiplications(model: AbstractModel, method: AbstractGradient) -> float:
    """Of a step and a stream: the layers forward and back, and J M where a method carries the whole influence M."""
    layers = 3 * sum(p.numel() for p in model.recurrence.parameters())
    r = model.recurrence
    influence = r.cell.states * r.hidden_size * influence_numbers(model, method)
    return layers + influence / (method.block if isinstance(method, BlockRTRL) else 1)


def influence_numbers(model: AbstractModel, method: AbstractGradient) -> int:
    """Numbers in ∂s/∂θ of one stream where the method keeps all of them, S H P; else 0."""
    r = model.recurrence
    whole = isinstance(method, RTRL | BlockRTRL) or (isinstance(method, SnAp) and method.order > 1)
    return r.cell.states * r.hidden_size * sum(p.numel() for p in r.parameters()) if whole else 0
