"""Truncated backpropagation through time with a sliding window: every loss sees exactly ``lags`` lags.

With c_s = ∂L_s/∂s_s and J_t = ∂s_t/∂s_{t−1} of the whole stack, I_t = ∂f_t/∂θ:

    v_s^0 = c_s,    v_s^{k+1} = v_s^k J_{s−k}                   (1)     the adjoint of loss s, k steps before it
    λ_t   = Σ_{k<K} v_{t+k}^k                                   (2)
    dL/dθ = Σ_t λ_t I_t                                         (3)

It finds the gradient of ``TruncatedBPTT(1, K)`` lag by lag. (1) is one batched product for all losses, so that there are K products in
place of T windows; (3) is one product at the end. It takes O(K·H²) arithmetic per step and O((T + K)·H) memory. The losses are taken
back in groups of a few steps, so that the K products work in the processor's second-level cache.

Across calls, the last K − 1 steps of input are kept with the state before them, and run forward again with the present parameters.

References: Williams & Peng, *An efficient gradient-based algorithm for on-line training of recurrent network trajectories*,
1990 (BPTT(K) at every step). Marschall, Cho & Savin, *A unified framework of online learning algorithms for training recurrent
neural networks*, 2020: their F-BPTT is the same, each gradient given K − 1 steps later.
"""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from .. import _check
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ..nn import LayerStates, Trace
from ._base import AbstractGradient, Carry, Outcome
from ._history import History
from ._stations import run_with_steps

_ROWS = 256  # losses (steps × streams) in a group


@final
@dataclass(frozen=True)
class SlidingBPTT(AbstractGradient):
    """Every loss is taken back over exactly ``lags`` steps, including its own. The state is carried on, detached.

    It costs ``lags`` backward steps for each step, while ``TruncatedBPTT(k, 2·k)`` costs two. Use it to study the window itself, or if
    the window is short.

    Args:
        lags: K; 1 is the gradient within each step alone.
        clip_adjoint: as in ``FullBPTT``, for each loss by itself.

    Raises:
        InputError: lags below 1.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> loss, _ = SlidingBPTT(12).accumulate(model, batch)  # as many lags as there are: the exact gradient
    >>> found = model.recurrence.weight_hh_l0.grad.clone()
    >>> model.zero_grad()
    >>> loss, _ = tt.gradients.FullBPTT().accumulate(model, batch)
    >>> torch.allclose(found, model.recurrence.weight_hh_l0.grad, atol=1e-6)
    True
    """

    lags: int
    clip_adjoint: float | None = None
    agrees = "within a window"
    streams_axis = 1

    def __post_init__(self) -> None:
        _check.positive("lags", self.lags)
        if self.clip_adjoint is not None:
            _check.above_zero("clip_adjoint", self.clip_adjoint, remedy="None switches it off.")

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        history = History.of(batch, carry, repr(self))
        trace = run_with_steps(model, history.steps(0, history.T), history.state, history.fresh, repr(self), clip=self.clip_adjoint)
        loss, c = model.loss_and_adjoint(trace.hs[history.offset :], batch)
        slide(trace, c, self.lags)
        keep_from = max(0, history.T - (self.lags - 1))
        return Outcome(loss, Carry(trace.last, history.kept_from(keep_from, trace.state_after(keep_from)), repr(self)))


def slide(trace: Trace, c: Tensor, lags: int) -> None:
    """(1)–(3): add the gradient with ``lags`` lags of the losses whose ∂L/∂h are ``c`` (T', B, H), at the trace's last T' steps."""
    total = trace.zeros(trace.T)
    offset, together = trace.T - len(c), max(1, _ROWS // trace.B)
    for first in range(offset, trace.T, together):
        last = min(first + together, trace.T)
        _take_back(trace, c[first - offset : last - offset], first, lags, total)
    trace.add_gradients(total)  # (3)


def _take_back(trace: Trace, c: Tensor, first: int, lags: int, total: LayerStates) -> None:
    """(1), (2) for the losses of the steps from ``first`` on."""
    start, stop = first, first + len(c)  # the steps that v has reached
    v, before = trace.zeros(len(c)), trace.zeros(len(c))
    v[-1][0].copy_(c.flatten(0, 1))
    for _ in range(min(lags, stop)):
        trace.pull(start, stop, v, before)  # (1)
        _add(total, v, slice(start * trace.B, stop * trace.B))  # (2)
        v, before = before, v
        if start == 0:  # drop the adjoints that have passed the first step
            v, before = ([tuple(s[trace.B :] for s in state) for state in adjoints] for adjoints in (v, before))
        start, stop = max(0, start - 1), stop - 1


def _add(total: LayerStates, part: LayerStates, rows: slice) -> None:
    """total[rows] += part."""
    for sums, parts in zip(total, part, strict=True):
        for s, p in zip(sums, parts, strict=True):
            s[rows] += p
