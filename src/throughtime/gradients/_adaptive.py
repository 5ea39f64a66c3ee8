"""Truncated backpropagation through time that chooses its window, from an estimate of the bias that the window leaves.

With c_s = ∂ℓ_s/∂s_s, Φ(s, t) = J_s ⋯ J_{t+1}, I_t = ∂f_t/∂θ, g_K the gradient per loss with lags 0..K−1 and g with all of them:

    ψ_k = E_s ‖c_s Φ(s, s−k) I_{s−k}‖                                       (1)     the size of a loss's gradient at lag k
    ψ_{k+1} ≤ β ψ_k  for k ≥ τ, β < 1                                       (2)     what is assumed
    ‖E g_K − g‖ ≤ R(K) = Σ_{k≥K} ψ_k
        ≤ ψ_τ β^{K−τ} / (1 − β)                     K ≥ τ                   (3)
        ≤ Σ_{k=K}^{τ−1} ψ_k + ψ_τ / (1 − β)         K < τ                   (4)
    ‖g‖ ≥ max_K (‖E g_K‖ − R(K))                                            (5)
    ρ(K) = R(K) / (5)                                                       (6)     bounds the relative bias, where (5) is above 0
    the window is the least K with ρ(K) < tolerance, or ``max_lags``        (7)

Where β ≥ 1, or (5) is not above 0, nothing is known: ρ = ∞ and the window is ``max_lags``.

How it is estimated. Every so many calls the last step with a loss is taken back, stream by stream, over the batch and the steps kept
before it, at most ``max_lags``; E_s is the mean over the streams. ln β is the slope of the least-squares line through ln ψ_k, k ≥ τ.
It is an estimate: from one step, in the weights of the recurrence (the input station's are left out, the head's have no bias).

The paper bounds ‖c_s Φ(s, s−k)‖ and multiplies by M ≥ ‖I_t‖. Here the norm is taken in the space of the parameters itself, where one
step's part of a weight's gradient is an outer product, and its norm a product of two: no M is needed, and (5) is a bound on ‖g‖. (The
authors' code leaves M out, takes ‖g‖ in the space of h, fits every k, and counts φ_τ twice where K < τ; the mathematics is followed here.)

References: Aicher, Foti & Fox, *Adaptively truncating backpropagation through time to control gradient bias*, 2019
(arXiv:1905.07473), theorem 1 and algorithm 2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from .. import _check
from .._check import InputError
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome, carried_state, entering
from ._sliding import SlidingBPTT
from ._truncated import TruncatedBPTT
from .reverse._stretch import Stretch
from .reverse._unrolled import Pulled, Unrolled


class Bias(NamedTuple):
    """What a window leaves out, for K = 1, 2, …, W (index K − 1)."""

    absolute: Tensor  # (W,) R(K)
    relative: Tensor  # (W,) ρ(K)


@final
@dataclass(frozen=True)
class AdaptiveBPTT(AbstractGradient):
    """Truncated BPTT whose losses see K lags or more, K chosen so that the estimated relative bias stays under ``tolerance``.

    ``logged`` tells the window, K, and ``bias_bound``, its ρ(K), where that is finite.

    Args:
        tolerance: δ in (0, 1) of the relative bias. SGD converges for any of them, if its steps are small enough (the paper's theorem 2).
        max_lags: the largest window, and how far the estimate looks back.
        min_lags: the smallest window.
        every: calls between two estimates. One costs about ``max_lags`` steps of the plain loop, back.
        fit_from: τ; None: half of the lags that are seen.
        k1: steps between windows, which then reach back k1 + K − 1. 1: every loss sees exactly K lags. None: K, so from K to 2K − 1.
        clip_adjoint: as in ``FullBPTT``, in the estimate too.

    Raises:
        InputError: a tolerance outside (0, 1), a size below 1, min_lags or fit_from beyond max_lags.
    """

    tolerance: float
    max_lags: int
    min_lags: int = 1
    every: int = 100
    fit_from: int | None = None
    k1: int | None = None
    clip_adjoint: float | None = None
    agrees = "within a window"

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance is {self.tolerance!r}; expected a relative bias in (0, 1), such as 0.1 or 0.5.")
        for name in ("max_lags", "min_lags", "every"):
            _check.positive(name, getattr(self, name))
        if self.min_lags > self.max_lags:
            raise InputError(f"min_lags is {self.min_lags} and max_lags is {self.max_lags}; expected at most as many. Lower min_lags.")
        if self.fit_from is not None and not 0 <= self.fit_from < self.max_lags - 1:
            raise InputError(
                f"fit_from is {self.fit_from} and max_lags is {self.max_lags}; expected a lag from 0 to max_lags − 2: the decay is seen "
                "from two lags or more. Lower fit_from or raise max_lags."
            )
        if self.k1 is not None:
            _check.positive("k1", self.k1)
        if self.clip_adjoint is not None:
            _check.above_zero("clip_adjoint", self.clip_adjoint, remedy="None switches it off.")

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        stretch = Stretch.of(batch, carry, carried_state(carry, repr(self)))
        kept = carry.kept if isinstance(carry, Carry) else {}
        calls = int(kept.get("calls", 0))
        window, bound = int(kept.get("window", self.max_lags)), float(kept.get("bound", math.inf))
        if calls % self.every == 0 and (bias := self.estimate(model, stretch)) is not None:
            window, bound = self.choose(bias)
        method = self.with_window(window)
        reach_from, keep_from = max(0, stretch.offset - (window - 1)), max(0, stretch.T - (self.max_lags - 1))
        states = _states_before(model, stretch, {reach_from, keep_from})
        given = carry.state if isinstance(carry, Carry) else carry
        if given is not None and reach_from < stretch.offset:
            given = Carry(given, stretch.rows(reach_from, stretch.offset, states[reach_from]), repr(method))
        loss, done = method.accumulate(model, batch, given)
        now = {"calls": torch.tensor(calls + 1), "window": torch.tensor(window), "bound": torch.tensor(bound)}
        return Outcome(loss, Carry(done.state, stretch.history(keep_from, states[keep_from]) | now, repr(self)))

    def logged(self, carry: Carry) -> Mapping[str, float]:
        window, bound = float(carry.kept["window"]), float(carry.kept["bound"])
        return {"window": window} | ({"bias_bound": bound} if math.isfinite(bound) else {})

    def with_window(self, window: int) -> AbstractGradient:
        """The method that finds the gradient with ``window`` lags, at least, for each loss."""
        if self.k1 == 1:
            return SlidingBPTT(window, self.clip_adjoint)
        k1 = window if self.k1 is None else self.k1
        return TruncatedBPTT(k1, k1 + window - 1, self.clip_adjoint)

    def choose(self, bias: Bias) -> tuple[int, float]:
        """(7): the window, and its ρ."""
        for window in range(self.min_lags, self.max_lags):
            if float(bias.relative[window - 1]) < self.tolerance:
                return window, float(bias.relative[window - 1])
        return self.max_lags, float(bias.relative[self.max_lags - 1])

    def estimate(self, model: AbstractModel, stretch: Stretch) -> Bias | None:
        """R and ρ for K up to ``max_lags``, from the last step that has a loss; None where there is none."""
        at = _last_loss(stretch.batch)
        if at is None:
            return None
        row = stretch.offset + at
        sizes, norms = self._measure(Unrolled(model, stretch), row, stretch.batch.steps(at, at + 1))
        return bias_bound(sizes, norms, self.max_lags, self.fit_from)

    def _measure(self, unrolled: Unrolled, row: int, step: Batch) -> tuple[Tensor, Tensor]:
        """(1) ψ_k and ‖E g_{k+1}‖ for every lag k that is there to be seen."""
        hs = unrolled.hs[row : row + 1].detach().requires_grad_()
        (c,) = torch.autograd.grad(unrolled.model.losses(hs, step).sum(), hs)
        has_loss, seen = c[0].abs().amax(1) > 0, torch.ones(step.B, dtype=torch.bool, device=c.device)
        v, sizes, norms = unrolled.from_top(c), [], []
        mean: list[Tensor] = []  # E g_K, as far as K has come
        for t in range(row, max(-1, row - self.max_lags), -1):
            if not bool((seen & has_loss).any()):
                break
            back = unrolled.pull(v, t, t + 1, clip=self.clip_adjoint)
            sizes.append(_norm_per_stream(unrolled, back, t)[seen & has_loss].mean())  # (1)
            parts = _gradient(unrolled, back, t, int(has_loss.sum()))
            mean = parts if not mean else [m + p for m, p in zip(mean, parts, strict=True)]
            norms.append(torch.stack([m.square().sum() for m in mean]).sum().sqrt())
            seen = seen & ~unrolled.stretch.fresh[t]  # beyond its beginning a stream has no lag
            v = back.before
        return (torch.stack(sizes), torch.stack(norms)) if sizes else (c.new_zeros(0), c.new_zeros(0))


def bias_bound(sizes: Tensor, norms: Tensor, max_lags: int, fit_from: int | None) -> Bias:
    """(2)–(6), from ψ_k and ‖E g_{k+1}‖ at the lags that were seen.

    >>> halves = 0.5 ** torch.arange(8.0, dtype=torch.float64)
    >>> bias_bound(halves, halves.cumsum(0), 4, None).absolute     # Σ_{k≥K} 2^−k = 2^{1−K}
    tensor([1.0000, 0.5000, 0.2500, 0.1250], dtype=torch.float64)
    """
    infinite = sizes.new_full((max_lags,), math.inf)
    start = min(len(sizes) // 2, len(sizes) - 2) if fit_from is None else fit_from  # τ
    if start < 0 or len(sizes) - start < 2:
        return Bias(infinite, infinite)
    beta = _decay(sizes[start:])
    if not beta < 1:
        return Bias(infinite, infinite)
    tail = sizes[start] / (1 - beta)
    lags = torch.arange(1, max(max_lags, len(sizes)) + 1, device=sizes.device)
    before = torch.stack([sizes[int(k) : start].sum() for k in lags])
    absolute = torch.where(lags < start, before + tail, tail * beta ** (lags - start).clamp_min(0))  # (4), (3)
    least = (norms - absolute[: len(norms)]).max()  # (5)
    return Bias(absolute[:max_lags], absolute[:max_lags] / least if least > 0 else infinite)  # (6)


def _decay(sizes: Tensor) -> float:
    """β: the slope of ln ψ_k against k. Sizes of 0 have no logarithm; where at most one is left, nothing lasts and β is 0."""
    k = (sizes > 0).nonzero().flatten()
    if len(k) < 2:
        return 0.0
    x, y = k - k.double().mean(), sizes[k].double().log()
    return math.exp(float((x * y).sum() / x.square().sum()))


def _norm_per_stream(unrolled: Unrolled, back: Pulled, t: int) -> Tensor:
    """(B,) ‖v I_t‖ over the weights of all layers: ‖dwx ⊗ x‖² = ‖dwx‖² ‖x‖², and a bias's x is 1."""
    square = torch.zeros((), device=back.dwx[0].device)
    for layer, dwx, drh in zip(unrolled.layers, back.dwx, back.drh, strict=True):
        x, h = layer.below[t].square().sum(1), layer.before(t, t + 1)[0][0].square().sum(1)
        _, _, b_ih, b_hh = layer.parameters
        square = square + dwx[0].square().sum((1, 2)) * (x + (b_ih is not None))
        square = square + drh[0].square().sum((1, 2)) * (h + (b_hh is not None))
    return square.sqrt()


def _gradient(unrolled: Unrolled, back: Pulled, t: int, streams: int) -> list[Tensor]:
    """The mean over so many streams of v I_t, weight by weight."""
    layers = zip(unrolled.layers, back.dwx, back.drh, strict=True)
    return [g / streams for layer, dwx, drh in layers for g in layer.gradients(dwx, drh, t, t + 1) if g is not None]


def _last_loss(batch: Batch) -> int | None:
    """The last step at which any stream's loss counts."""
    counts = torch.ones(batch.T, batch.B, dtype=torch.bool, device=batch.inputs.device) if batch.mask is None else batch.mask
    counts = counts if batch.weights is None else counts & (batch.weights != 0)
    steps = counts.any(1).nonzero()
    return int(steps[-1]) if len(steps) else None


@torch.no_grad()
def _states_before(model: AbstractModel, stretch: Stretch, rows: set[int]) -> dict[int, State]:
    """The state that each of these rows is entered with."""
    restarts = set(stretch.fresh.any(1).nonzero().flatten().tolist())
    cuts = sorted(cut for cut in restarts | rows if 0 < cut <= max(rows))
    state, found, start = entering(model, stretch.state, stretch.fresh[0], stretch.batch.B), {}, 0
    for cut in [*cuts, None]:
        if start in rows:
            found[start] = state
        if cut is not None:
            inputs = stretch.inputs[start:cut]
            _, state = model.recurrence(model.enter(Batch(inputs, inputs)), state)
            state = entering(model, state, stretch.fresh[cut], stretch.batch.B) if cut < stretch.T else state
            start = cut
    return found
