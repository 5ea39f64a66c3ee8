"""Truncated backpropagation through time with a window that slides: every loss sees exactly ``lags`` lags.

With c_s = ∂L_s/∂s_s and J_t = ∂s_t/∂s_{t−1} of the whole stack, I_t = ∂f_t/∂θ:

    v_s^0 = c_s,    v_s^{k+1} = v_s^k J_{s−k}                   (1)     the adjoint of loss s, k steps before it
    λ_t   = Σ_{k<K} v_{t+k}^k                                   (2)
    dL/dθ = Σ_t λ_t I_t                                         (3)

It is ``TruncatedBPTT(1, K)``, lag by lag, but (1) is one batched product for all losses at once: K of them in place of T windows, and
(3) one product at the end. Arithmetic O(K·H²) a step; memory O((T + K)·H), whatever K.

Across calls the last K − 1 steps of input are kept with the state before them, and run forward again under the parameters of the day.

References: Williams & Peng, *An efficient gradient-based algorithm for on-line training of recurrent network trajectories*,
1990 (BPTT(K) at every step). Marschall, Cho & Savin, *A unified framework of online learning algorithms for training recurrent
neural networks*, 2020: their F-BPTT is the same, each gradient given K − 1 steps later.
"""

from dataclasses import dataclass
from typing import final

from .. import _check
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome, carried_state
from .reverse._stretch import Stretch
from .reverse._unrolled import Layered, Unrolled


@final
@dataclass(frozen=True)
class SlidingBPTT(AbstractGradient):
    """Every loss goes back over exactly ``lags`` steps, its own the first; the state is carried on, detached.

    Costs ``lags`` backward steps for each step, where ``TruncatedBPTT(k, 2·k)`` costs two: choose it where the window itself is
    studied, or is short.

    Args:
        lags: K; 1 is the gradient of each step alone.
        clip_adjoint: as in ``FullBPTT``, for each loss by itself.

    Raises:
        InputError: lags below 1.
    """

    lags: int
    clip_adjoint: float | None = None
    agrees = "within a window"

    def __post_init__(self) -> None:
        _check.positive("lags", self.lags)
        if self.clip_adjoint is not None:
            _check.above_zero("clip_adjoint", self.clip_adjoint, remedy="None switches it off.")

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        stretch = Stretch.of(batch, carry, carried_state(carry, repr(self)))
        unrolled = Unrolled(model, stretch)
        loss, c = unrolled.loss()
        total, v = unrolled.zeros(stretch.T), unrolled.from_top(c)
        start, stop = stretch.offset, stretch.T  # the rows where v stands
        for _ in range(min(self.lags, stretch.T)):
            back = unrolled.pull(v, start, stop, clip=self.clip_adjoint)  # (1)
            _add_at(total, back.adjoint, start, stop)  # (2)
            beyond = 1 if start == 0 else 0  # what falls off the first row
            v = [tuple(s[beyond:] for s in state) for state in back.before]
            start, stop = max(0, start - 1), stop - 1
        unrolled.add_gradients(total)  # (3)
        keep_from = max(0, stretch.T - (self.lags - 1))
        return Outcome(loss, Carry(unrolled.last, stretch.history(keep_from, unrolled.entering(keep_from)), repr(self)))


def _add_at(total: Layered, part: Layered, start: int, stop: int) -> None:
    """total[start:stop] += part, in place."""
    for sums, parts in zip(total, part, strict=True):
        for s, p in zip(sums, parts, strict=True):
            s[start:stop] += p
