"""What truncated backpropagation misses, window by window, exactly: what its chunks would find, all of them side by side.

With windows that end at e = k, 2k, … and at T, ``TruncatedBPTT(k, k2)`` leads the losses after the last end back to step e − k2. The
state is the same in every one of them, so they are run as streams of one batch, from the states of the traced:

    ĝ(k, k)  = Σ_e (the losses of e, over the steps e − k … e − 1)                  (1)
    ĝ(k, 2k) = ĝ(k, k) + Σ_e (λ_{e−k}, over the steps e − 2k … e − k − 1)           (2)     λ: the adjoint that (1) leaves at its border

(1) and (2) are a forward and a backward pass over T steps each, whatever k is; at k the losses see 1 to k and k + 1 to 2k lags. The last
window may be shorter; its losses reach back as far as the others.

T time · B batch · I input · H hidden · L layers · S states · W windows · M window lengths.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ..._shapes import State
from ...gradients import CheckpointedBPTT, FullBPTT, SlidingBPTT, TruncatedBPTT
from ...models import AbstractModel
from ._asked import TrainedBy
from ._bias import least_window
from ._gradients import gradients_aside, gradients_of
from ._problem import Problem
from ._results import LEVELS, BiasCurve, OwnBias, WindowBias
from ._traced import Traced

Gradients = dict[str, Tensor]

_MOST = 5  # window lengths, each the double of the last; two passes forward and backward each
_FAMILY = (FullBPTT, CheckpointedBPTT, TruncatedBPTT, SlidingBPTT)  # those that are neither random nor forward in time


def with_windows(curve: BiasCurve, problem: Problem, traced: Traced, gradient: Gradients, own: Gradients | None) -> BiasCurve:
    """The curve of sliding windows, and beside it those of chunks, of overlapping windows, and of the network's own training."""
    lengths = _lengths(curve, traced, problem.asked.trained_by) if problem.asked.windows else []
    true = {name: gradient[name] for name in curve.parameters}
    found = [[_against(part, true) for part in truncated_gradients(problem.model, traced, k)] for k in lengths]
    chunked, overlapping = (_curve(lengths, [pair[i] for pair in found]) for i in (0, 1)) if found else (None, None)
    return replace(curve, chunked=chunked, overlapping=overlapping, own=_own(problem, own, true))


def gradient_as_trained(problem: Problem) -> Gradients | None:
    """dL/dθ as the network's own training finds it, the weights held; None where that is unknown, random or forward in time."""
    by, batch, model = problem.asked.trained_by, problem.batch, problem.model
    if by is None or not isinstance(by.method, _FAMILY):
        return None
    carry, total = problem.state, {}
    for start in range(0, batch.T, by.steps or batch.T):
        part = batch.steps(start, min(start + (by.steps or batch.T), batch.T))
        with gradients_aside(model):
            carry = by.method.accumulate(model, part, carry).carry
            share = model.scale(batch) / model.scale(part)  # each call divides by its own number of losses
            total = {name: g * share + total.get(name, 0) for name, g in gradients_of(model).items()}
    return total


def truncated_gradients(model: AbstractModel, traced: Traced, k: int) -> tuple[Gradients, Gradients]:
    """(1), (2): dL/dθ by ``TruncatedBPTT(k)`` and ``TruncatedBPTT(k, 2 * k)``, k below T."""
    T = len(traced.counted)
    ends = [*range(k, T, k), T]
    dhs = torch.stack([traced.dhs[end - k : end] for end in ends], 1)  # (k, W, B, H)
    dhs[: ends[-2] - (T - k), -1] = 0  # of steps that the window before has counted
    near = _Stage(model, traced, [end - k for end in ends], k)
    near.back([near.hs], [dhs.flatten(1, 2)])
    chunked = _added(near.gradients(), traced.direct)
    span = min(k, T - k)  # k is below T, so that all windows but the first have as many steps before them
    far = _Stage(model, traced, [end - k - span for end in ends[1:]], span)
    far.back(far.last, [d[:, traced.counted.shape[1] :] for d in near.before_adjoint])
    found = (chunked, _added(chunked, far.gradients()))
    return tuple({name: g * traced.scale for name, g in part.items()} for part in found)  # type: ignore[return-value]


class _Stage:
    """Stretches of the traced of equal length, run side by side from the states that stood before them."""

    def __init__(self, model: AbstractModel, traced: Traced, starts: Sequence[int], length: int) -> None:
        self.traced, self.starts, self.length = traced, starts, length
        with torch.enable_grad():
            self.xs = torch.stack([traced.xs.detach()[a : a + length] for a in starts], 1).flatten(1, 2).requires_grad_()
            self.before = tuple(torch.stack(parts).requires_grad_() for parts in zip(*self._states(), strict=True))
            self.hs, self.last = model.recurrence(self.xs, self.before)

    def _states(self) -> Iterator[State]:
        """Each layer's, S tensors (W·B, H)."""
        for layer in self.traced.layers:
            yield tuple(torch.cat([s[a] for a in self.starts]) for s in layer.states)

    def back(self, made: Sequence[Tensor], adjoints: Sequence[Tensor]) -> None:
        """Lead adjoints back to the states before, to the inputs and to the weights."""
        trained = self.traced.trained
        found = torch.autograd.grad(made, [*trained.values(), self.xs, *self.before], adjoints, allow_unused=True)
        n = len(trained)
        self._weights, self._dxs = dict(zip(trained, found[:n], strict=True)), found[n]
        self.before_adjoint = tuple(torch.zeros_like(s) if d is None else d for d, s in zip(found[n + 1 :], self.before, strict=True))

    def gradients(self) -> Gradients:
        """What ``back`` brought to every parameter; ``before_adjoint`` goes on only where the traced begins."""
        found = {name: g for name, g in self._weights.items() if g is not None}
        traced, W = self.traced, len(self.starts)
        if traced.xs.requires_grad and self._dxs is not None:
            dxs = torch.zeros_like(traced.xs)
            for start, part in zip(self.starts, self._dxs.unflatten(1, (W, -1)).unbind(1), strict=True):
                dxs[start : start + self.length] += part
            found = _added(found, traced.lead_on((traced.xs,), (dxs,)))
        if traced.before[0].requires_grad:
            first = [w for w, start in enumerate(self.starts) if start == 0]
            ends = tuple(d.unflatten(1, (W, -1))[:, first].sum(1) for d in self.before_adjoint)
            found = _added(found, traced.lead_on(traced.before, ends))
        return found


def _added(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Gradients:
    """Both together, by name."""
    return {**one, **{name: g + one[name] if name in one else g for name, g in other.items()}}


def _lengths(curve: BiasCurve, traced: Traced, by: TrainedBy | None) -> list[int]:
    """Powers of two up to half of T, the training's own, and those at which a sliding window has become good enough."""
    T = len(traced.counted)
    powers = [2**i for i in range(T.bit_length()) if 2 * 2**i <= T][-_MOST:]
    own = [] if by is None else [_window(by, T)]
    good = [window for level, window in curve.least.items() if window is not None and level >= 0.01 and 2 * window <= T]
    return sorted({k for k in (*powers, *own, *good) if k < T})


def _curve(lengths: Sequence[int], found: Sequence[tuple[float, float]]) -> WindowBias:
    bias, cosine = (torch.tensor(part, dtype=torch.float64) for part in zip(*found, strict=True))
    least = {level: None if (i := least_window(bias, level)) is None else lengths[i - 1] for level in LEVELS}
    return WindowBias(torch.tensor(lengths, dtype=torch.float64), bias, cosine, least)


def _own(problem: Problem, own: Gradients | None, true: Gradients) -> OwnBias | None:
    by = problem.asked.trained_by
    if own is None or by is None:
        return None
    bias, cosine = _against(own, true)
    if not math.isfinite(bias):
        return None
    T = problem.batch.T
    return OwnBias(_written(by.method), _in_words(by, T), _window(by, T), by.steps or T, bias, cosine)


def _window(by: TrainedBy, T: int) -> int:
    """Steps between two windows; of a sliding one, its length."""
    steps = by.steps or T
    match by.method:
        case TruncatedBPTT(k1=k1):
            return min(k1, steps)
        case SlidingBPTT(lags=lags):
            return lags
        case _:
            return steps


def _in_words(by: TrainedBy, T: int) -> str:
    """How far back the method goes, and how long the last call is where the calls do not divide T."""
    window, steps = _window(by, T), by.steps or T
    rest = f", the last call of {T % steps}" if T % steps else ""
    match by.method:
        case TruncatedBPTT(k2=k2) if (k2 or 0) > window:
            return f"windows of {k2} steps, a new one every {window}{rest}"
        case SlidingBPTT():
            return f"sliding windows of {window} steps{rest}"
        case _:
            return f"chunks of {window} step{'s' if window > 1 else ''}{rest}"


def _written(method: Any) -> str:
    """The method as one would write it: without what is left at its default."""
    given = [f"{f.name}={value!r}" for f in fields(method) if (value := getattr(method, f.name)) != f.default]
    return f"{type(method).__name__}({', '.join(given)})"


def _against(found: Mapping[str, Tensor], true: Gradients) -> tuple[float, float]:
    """Relative bias and cosine over the parameters of ``true``."""
    a = torch.cat([found.get(name, torch.zeros_like(g)).flatten() for name, g in true.items()]).double()
    b = torch.cat([g.flatten() for g in true.values()]).double()
    size = torch.linalg.vector_norm(b)
    return float(torch.dist(a, b) / size), float(torch.dot(a, b) / (torch.linalg.vector_norm(a) * size))
