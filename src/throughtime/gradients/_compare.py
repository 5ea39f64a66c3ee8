"""A comparison of gradient methods on the same weights and batch: bias, variance, time and memory.

Let g be the exact gradient (``FullBPTT``) of all parameters except the head's, concatenated (the head's gradient is exact with every
method and would hide the others). Let ĝ_1 … ĝ_n be a method's draws (n = 1 for a method that is not random):

    ḡ = Σ_i ĝ_i / n                                 (1)
    cosine = ⟨ḡ, g⟩ / (‖ḡ‖ ‖g‖)                     (2)
    bias = ‖ḡ − g‖ / ‖g‖                            (3)
    variance = Σ_i ‖ĝ_i − ḡ‖² / ((n − 1) ‖g‖²)      (4)     of one draw
    noise = √(variance / n)                         (5)     the expected size of (3) for an unbiased method

(1)–(5) are measured in float64. Time and memory are those of one call in the model's own dtype on a stream that continues (the carry is
passed on, ``fresh`` is left out): the least time of several calls, and the peak memory of torch's allocator above its level before the
call, by torch's profiler. The profiler does not see scratch memory inside the packed kernels.
"""

import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .. import _check
from .._check import InputError
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient
from ._full import FullBPTT

_REPEATS = 3  # calls that are timed


@final
@dataclass(frozen=True)
class Compared:
    """The measurements of one method; ``refused`` is the reason if the method cannot be used on this model.

    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> (row,) = tt.gradients.compare(model, tt.Batch(text[:-1], text[1:]), {"chunks": tt.gradients.TruncatedBPTT(3)})
    >>> row.name, row.agrees, row.draws, 0 < row.bias < 1
    ('chunks', 'within a window', 1, True)
    """

    name: str
    agrees: str
    draws: int = 0
    cosine: float | None = None
    bias: float | None = None
    variance: float | None = None
    noise: float | None = None
    milliseconds: float | None = None
    peak_bytes: int | None = None
    refused: str | None = None


def compare(
    model: AbstractModel,
    batch: Batch,
    methods: Mapping[str, AbstractGradient],
    *,
    draws: int = 20,
    state: State | None = None,
) -> Iterator[Compared]:
    """Measure each method in turn. The model's weights are not changed; its gradients are set to None.

    Args:
        model: the model; its dropout is off during the measurement.
        batch: T steps of B streams. No method sees steps before the batch.
        methods: the methods, by the names that they get in the results.
        draws: how many seeds are used for a method that has a ``seed``; they count up from its own.
        state: the recurrent state before the batch, S tensors (L, B, H); None: the model's initial state.

    Returns:
        An iterator over the measurements. Each method is measured when its row is asked for.

    Raises:
        InputError: draws below 2; an exact gradient of 0, to which nothing can be compared.

    >>> import throughtime as tt
    >>> from throughtime.gradients import SlidingBPTT, UORO, compare
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> rows = compare(model, tt.Batch(text[:-1], text[1:]), {"all lags": SlidingBPTT(12), "uoro": UORO()}, draws=2)
    >>> [(row.name, row.draws, row.bias < 1e-9) for row in rows]
    [('all lags', 1, True), ('uoro', 2, False)]
    """
    if draws < 2:
        raise InputError(f"draws is {draws}; expected at least 2: one draw has no variance. Give more.")
    precise = copy.deepcopy(model).double().eval()
    at_double = _double(batch)
    before = None if state is None else tuple(s.detach().double() for s in state)
    exact = _gradient(precise, at_double, FullBPTT(), before)
    if not exact.any():
        raise InputError("the exact gradient of this batch is 0; expected a batch with a loss that the weights can change. Give another.")
    for name, method in methods.items():
        try:
            quality = _quality(precise, at_double, _drawn(method, draws), exact, before)
            yield Compared(name, method.agrees, **quality, **_cost(model, batch, method))
        except (NotImplementedError, InputError) as error:
            yield Compared(name, method.agrees, refused=str(error))


def _quality(model: AbstractModel, batch: Batch, draws: list[AbstractGradient], exact: Tensor, state: State | None) -> dict[str, Any]:
    """(1)–(5), without keeping the draws, since a network's gradient may be large."""
    n, size = len(draws), exact.norm()
    mean, square = torch.zeros_like(exact), 0.0  # Welford: Σ ‖ĝ_i − ḡ‖² in one pass
    for i, method in enumerate(draws, 1):
        g = _gradient(model, batch, method, state)
        before = g - mean
        mean = mean + before / i  # (1)
        square += float(before @ (g - mean))
    variance = square / max(1, n - 1) / float(size) ** 2  # (4)
    cosine = float(mean @ exact / (mean.norm() * size).clamp_min(torch.finfo(exact.dtype).tiny))  # (2)
    bias = float((mean - exact).norm() / size)  # (3)
    return {"draws": n, "cosine": cosine, "bias": bias, "variance": variance, "noise": (variance / n) ** 0.5}  # (5)


def _cost(model: AbstractModel, batch: Batch, method: AbstractGradient) -> dict[str, Any]:
    """Time and memory of one call on a stream that continues, with the carry of the calls before it."""
    was_training, batch, seconds = model.training, replace(batch, fresh=None), []
    model.eval()
    try:
        carry = method.accumulate(model, batch).carry
        for _ in range(_REPEATS):
            started = time.perf_counter()
            carry = method.accumulate(model, batch, carry).carry
            seconds.append(time.perf_counter() - started)
        model.zero_grad()  # memory that is freed during the call would reduce the measured peak
        return {"milliseconds": 1e3 * min(seconds), "peak_bytes": peak_bytes(lambda: method.accumulate(model, batch, carry))}
    finally:
        model.zero_grad()
        model.train(was_training)


def peak_bytes(work: Callable[[], object]) -> int:
    """The peak memory of torch's allocator during ``work``, in bytes above the level before it.

    >>> peak_bytes(lambda: torch.empty(1000, dtype=torch.float64).clone())
    16000
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler prints that it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = cast(Any, seen.profiler).kineto_results.events()  # torch's stubs know neither
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _drawn(method: AbstractGradient, draws: int) -> list[AbstractGradient]:
    """The method with ``draws`` seeds; the method alone if it has no seed."""
    options = cast(Any, method)
    if not any(field.name == "seed" for field in fields(options)):
        return [method]
    return [replace(options, seed=_check.seed(options.seed + i)) for i in range(draws)]


def _gradient(model: AbstractModel, batch: Batch, method: AbstractGradient, state: State | None) -> Tensor:
    """The gradient of every parameter except the head's, concatenated."""
    model.zero_grad()
    method.accumulate(model, batch, state)
    head = {id(p) for p in model.head.parameters()} - {id(p) for p in model.input.parameters()}  # a tied table is the input's too
    learned = [p for p in model.parameters() if id(p) not in head]
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in learned])


def _double(batch: Batch) -> Batch:
    """The same numbers in float64."""
    return replace(batch, **{name: x.double() for name, x in vars(batch).items() if isinstance(x, Tensor) and x.is_floating_point()})
