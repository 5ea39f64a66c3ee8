"""Truncated backpropagation through time with a window chosen by an estimate of its bias.

With c_s = ∂ℓ_s/∂s_s, Φ(s, t) = J_s ⋯ J_{t+1}, I_t = ∂f_t/∂θ, g_K the gradient per loss with lags 0..K−1 and g with all of them:

    ψ_k = E_s ‖c_s Φ(s, s−k) I_{s−k}‖                                       (1)     the size of a loss's gradient at lag k
    ψ_{k+1} ≤ β ψ_k  for k ≥ τ, β < 1                                       (2)     the assumption
    ‖E g_K − g‖ ≤ R(K) = Σ_{k≥K} ψ_k
        ≤ ψ_τ β^{K−τ} / (1 − β)                     K ≥ τ                   (3)
        ≤ Σ_{k=K}^{τ−1} ψ_k + ψ_τ / (1 − β)         K < τ                   (4)
    ‖g‖ ≥ max_K (‖E g_K‖ − R(K))                                            (5)
    ρ(K) = R(K) / (5)                                                       (6)     bounds the relative bias, if (5) is above 0
    the window is the least K with ρ(K) < tolerance, or ``max_lags``        (7)

If β ≥ 1, or if (5) is not above 0, there is no bound: ρ = ∞ and the window is ``max_lags``.

The estimate. At every ``every``-th call, the adjoint of the last step with a loss is taken back for each stream, over the batch and the
steps kept before it, at most ``max_lags`` steps. E_s is the mean over the streams. ln β is the slope of the least-squares line through
ln ψ_k, k ≥ τ. The estimate uses one step only, and only the weights of the recurrence: those of the input station are left out, and the
head's gradient has no bias.

The paper bounds ‖c_s Φ(s, s−k)‖ and multiplies by M ≥ ‖I_t‖. Here the norm is taken in the space of the parameters. There one
step's part of a weight's gradient is an outer product, whose norm is a product of two norms, so that M is not needed and (5) bounds ‖g‖.
(The authors' code leaves M out, takes ‖g‖ in the space of h, fits every k, and counts φ_τ twice if K < τ. This code follows the
mathematics.)

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
from ..nn import Trace
from ._base import AbstractGradient, Carry, Outcome
from ._history import History
from ._sliding import slide
from ._stations import run_with_steps
from ._truncated import Windows, back_through_windows


class Bias(NamedTuple):
    """The estimated bounds on the bias of every window K = 1, 2, …, W (index K − 1)."""

    absolute: Tensor  # (W,) R(K)
    relative: Tensor  # (W,) ρ(K)


@final
@dataclass(frozen=True)
class AdaptiveBPTT(AbstractGradient):
    """Truncated BPTT with a window K chosen so that the estimated relative bias is below ``tolerance``. Every loss sees K lags or more.

    Use it if you do not know how far dependencies reach. ``logged`` reports the window K and its ``bias_bound`` ρ(K), if that is finite.

    Args:
        tolerance: δ in (0, 1), the largest relative bias. SGD converges for any δ if its steps are small enough (the paper's theorem 2).
        max_lags: the largest window, and the number of lags in the estimate.
        min_lags: the smallest window.
        every: calls between two estimates. An estimate runs the batch forward once more and goes back ``max_lags`` steps.
        fit_from: τ; None: half of the lags in the estimate.
        k1: steps between windows, which reach back k1 + K − 1 steps. With 1, every loss sees exactly K lags. None: K, so that losses see
            K to 2K − 1 lags.
        clip_adjoint: as in ``FullBPTT``, in the estimate too.

    Raises:
        InputError: a tolerance outside (0, 1), a size below 1, min_lags or fit_from beyond max_lags.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> method = AdaptiveBPTT(tolerance=0.1, max_lags=8)
    >>> loss, carry = method.accumulate(model, batch)
    >>> 1 <= method.logged(carry)["window"] <= 8
    True
    """

    tolerance: float
    max_lags: int
    min_lags: int = 1
    every: int = 100
    fit_from: int | None = None
    k1: int | None = None
    clip_adjoint: float | None = None
    agrees = "within a window"
    adds_over_streams = False  # all of them choose the window together

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
        history = History.of(batch, carry, repr(self))
        kept = carry.kept if isinstance(carry, Carry) else {}
        calls = int(kept.get("calls", 0))
        window, bound = int(kept.get("window", self.max_lags)), float(kept.get("bound", math.inf))
        if calls % self.every == 0 and (bias := self.estimate(model, history)) is not None:
            window, bound = self.choose(bias)
        keep_from = max(0, history.T - (self.max_lags - 1))
        found = self._go_back(model, history, window, keep_from)
        now = {"calls": torch.tensor(calls + 1), "window": torch.tensor(window), "bound": torch.tensor(bound)}
        return Outcome(found.loss, Carry(found.last, history.kept_from(keep_from, found.kept_state) | now, repr(self)))

    def logged(self, carry: Carry) -> Mapping[str, float]:
        window, bound = float(carry.kept["window"]), float(carry.kept["bound"])
        return {"window": window} | ({"bias_bound": bound} if math.isfinite(bound) else {})

    def _go_back(self, model: AbstractModel, history: History, window: int, keep_from: int) -> Windows:
        """Add the gradient with at least ``window`` lags for each loss."""
        if self.k1 == 1:
            trace = run_with_steps(model, history.steps(0, history.T), history.state, history.fresh, repr(self), clip=self.clip_adjoint)
            loss, c = model.loss_and_adjoint(trace.hs[history.offset :], history.batch)
            slide(trace, c, window)
            return Windows(loss, trace.last, trace.state_after(keep_from))
        k1 = window if self.k1 is None else self.k1
        return back_through_windows(model, history, k1, k1 + window - 1, keep_from=keep_from, clip=self.clip_adjoint)

    def choose(self, bias: Bias) -> tuple[int, float]:
        """(7): the window and its ρ."""
        for window in range(self.min_lags, self.max_lags):
            if float(bias.relative[window - 1]) < self.tolerance:
                return window, float(bias.relative[window - 1])
        return self.max_lags, float(bias.relative[self.max_lags - 1])

    def estimate(self, model: AbstractModel, history: History) -> Bias | None:
        """R and ρ for K up to ``max_lags``, from the last step that has a loss; None if no step has one."""
        steps = history.batch.counts().any(1).nonzero()
        if not len(steps):
            return None
        at = int(steps[-1])
        with torch.random.fork_rng(devices=[]):  # the gradient itself draws the same dropout after this
            trace = run_with_steps(model, history.steps(0, history.T), history.state, history.fresh, repr(self), clip=self.clip_adjoint)
            c = model.adjoint(trace.hs[history.offset + at].unsqueeze(0), history.batch.steps(at, at + 1))[0]
        sizes, norms = self._measure(trace, c, history.offset + at)
        return bias_bound(sizes, norms, self.max_lags, self.fit_from)

    def _measure(self, trace: Trace, c: Tensor, row: int) -> tuple[Tensor, Tensor]:
        """(1) ψ_k and ‖E g_{k+1}‖ for every available lag k of the loss at ``row``, whose ∂ℓ/∂h is ``c`` (B, H)."""
        has_loss = c.abs().amax(1) > 0
        reached = has_loss.clone()  # the streams that had started before step t
        v, before, sizes, norms = trace.zeros(1), trace.zeros(1), [], []
        v[-1][0].copy_(c)
        mean: list[Tensor] = []  # E g_K for the present K
        for t in range(row, max(-1, row - self.max_lags), -1):
            if not bool(reached.any()):
                break
            trace.pull(t, t + 1, v, before, dxs=torch.empty_like(trace.layers[0].xs[t]))
            sizes.append(_norm_per_stream(trace, t)[reached].mean())  # (1)
            parts = _gradient(trace, t, int(has_loss.sum()))
            mean = parts if not mean else [m + p for m, p in zip(mean, parts, strict=True)]
            norms.append(torch.stack([m.square().sum() for m in mean]).sum().sqrt())
            if trace.fresh is not None:
                reached = reached & ~trace.fresh[t]  # a stream has no lags before its start
            v, before = before, v
        return (torch.stack(sizes), torch.stack(norms)) if sizes else (c.new_zeros(0), c.new_zeros(0))


def bias_bound(sizes: Tensor, norms: Tensor, max_lags: int, fit_from: int | None) -> Bias:
    """(2)–(6), from ψ_k and ‖E g_{k+1}‖ at the measured lags.

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
    """β, from the slope of ln ψ_k against k. Sizes of 0 are left out; if at most one other is left, β is 0."""
    k = (sizes > 0).nonzero().flatten()
    if len(k) < 2:
        return 0.0
    x, y = k - k.double().mean(), sizes[k].double().log()
    return math.exp(float((x * y).sum() / x.square().sum()))


def _norm_per_stream(trace: Trace, t: int) -> Tensor:
    """(B,) ‖v I_t‖ over the weights of all layers: ‖dwx ⊗ x‖² = ‖dwx‖² ‖x‖², and a bias's x is 1."""
    rows, square = slice(t * trace.B, (t + 1) * trace.B), torch.zeros(())
    for layer in trace.layers:
        dwx, drh = (d[rows].square().sum((1, 2)) for d in (layer.pullback.dwx, layer.pullback.drh))
        x, h = (inputs[t].square().sum(1) for inputs in (layer.W_inputs, layer.R_inputs))
        square = square.to(dwx) + dwx * x + drh * h
    return square.sqrt()


def _gradient(trace: Trace, t: int, streams: int) -> list[Tensor]:
    """The mean of v I_t over ``streams`` streams, for each weight."""
    rows = slice(t * trace.B, (t + 1) * trace.B)
    return [g / streams for layer in trace.layers for g in layer.weight_gradients.of(rows) if g is not None]
