"""Randomly truncated backpropagation through time without bias (ARTBP).

After each step t a random draw decides whether the stream is cut there, X_t = 1:

    q_t = P(X_t = 1 | the draws before) = (α − 1) / ((α − 2)·L0 + δ_t)          (1)     δ_t: steps since the last cut, t's own the last
    λ̂_t = c_t                                   where X_t = 1                   (2)
    λ̂_t = c_t + λ̂_{t+1} J_{t+1} / (1 − q_t)     where X_t = 0                   (3)
    ĝ   = Σ_t λ̂_t I_t                                                           (4)

A loss at s reaches step t with the weight Π_{u=t}^{s−1} [X_u = 0]/(1 − q_u), whose expectation is 1 for every t: E ĝ = dL/dθ. By
(1) the mean length between cuts is L0 and P(length > ℓ) falls as ℓ^{−(α−1)}; a constant q would make the weights grow exponentially.

Each loss counts once, in its own call, and reaches back through earlier calls to the last cut. With unchanged parameters,
the expectation of the sum over the calls is the gradient of the whole stream. The carry therefore keeps, from the earliest of the
streams' last cuts on, the inputs (run forward again with the present parameters), every δ_t, and the generator's state. A fresh
stream is cut, and its δ starts again at 1. The number of kept steps has a mean but no bound; a bound would make the estimate biased.

References: Tallec & Ollivier, *Unbiasing truncated backpropagation through time*, 2017 (arXiv:1705.08209). They go back once a whole
segment is complete; here every call goes back from its own losses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .. import _check
from .._check import InputError
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ..nn import LayerStates, Trace
from ._base import AbstractGradient, Carry, Outcome
from ._history import History
from ._stations import run_with_steps


@final
@dataclass(frozen=True)
class RandomTruncatedBPTT(AbstractGradient):
    """Truncation at random places, weighted so that the expectation is the exact gradient over the whole past.

    It is unbiased, but has variance: if the gradient does not fade within a few L0, far lags are sampled rarely and with large weights.
    The carry holds the random generator. Pass it on even between unrelated sequences (and mark them ``fresh``): with ``carry=None`` every
    call draws the same cuts.

    Args:
        mean_length: L0, the mean number of steps between cuts; above 1.
        alpha: α above 2, which sets the tail of that length. The authors use 4 and 6. Below 3 the variance of the length is infinite.
        seed: the seed of the draws.
        clip_adjoint: as in ``FullBPTT``; it brings a bias back.

    Raises:
        InputError: a mean_length not above 1, an alpha not above 2.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> method = RandomTruncatedBPTT(mean_length=6)
    >>> loss, carry = method.accumulate(model, batch)
    >>> loss, carry = method.accumulate(model, batch, carry)  # goes back to the last cut, in whichever call it was
    """

    mean_length: float
    alpha: float = 4.0
    seed: int = 0
    clip_adjoint: float | None = None
    agrees = "in expectation"

    def __post_init__(self) -> None:
        for name, value, least in (("mean_length", self.mean_length, 1), ("alpha", self.alpha, 2)):
            if not least < value < 1e9:
                raise InputError(f"{name} is {value!r}; expected a number above {least}: below it there is no such length. Raise it.")
        _check.seed(self.seed)
        if self.clip_adjoint is not None:
            _check.above_zero("clip_adjoint", self.clip_adjoint, remedy="None switches it off.")

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        history = History.of(batch, carry, repr(self))
        since, generator = self._draw(history, carry.kept if isinstance(carry, Carry) else {})
        trace = run_with_steps(model, history.steps(0, history.T), history.state, history.fresh, repr(self), clip=self.clip_adjoint)
        loss, c = model.loss_and_adjoint(trace.hs[history.offset :], batch)
        trace.add_gradients(self._go_back(trace, c, since))  # (4)
        keep_from = history.T - int(since[-1].max())
        draws = {"since": since[keep_from:].clone(), "generator": generator.get_state()}
        return Outcome(loss, Carry(trace.last, history.kept_from(keep_from, trace.state_after(keep_from)) | draws, repr(self)))

    def probability(self, since: Tensor) -> Tensor:
        """(1): the probability of a cut after a step, given its δ."""
        return (self.alpha - 1) / ((self.alpha - 2) * self.mean_length + since)

    def weight(self, since: Tensor) -> Tensor:
        """The weight of the adjoint from a step to the one before it, given δ of the step: 0 at a cut (2), else 1/(1 − q) (3)."""
        return torch.where(since == 1, 0, 1 / (1 - self.probability((since - 1).clamp_min(1))))

    def _draw(self, history: History, kept: Mapping[str, Tensor]) -> tuple[Tensor, torch.Generator]:
        """δ of every row, (T, B); it is 1 after a cut. The carry holds those of the kept rows."""
        generator = torch.Generator().manual_seed(self.seed)
        if "generator" in kept:
            generator.set_state(kept["generator"].cpu())
        B = history.batch.B
        past = kept.get("since", torch.zeros(0, B, dtype=torch.long)).cpu()
        rows, since = [past], past[-1] if len(past) else torch.zeros(B, dtype=torch.long)
        for draw, fresh in zip(_uniform(history.batch.T, B, generator), history.fresh[history.offset :].cpu(), strict=True):
            cut = fresh | (since == 0) | (draw < self.probability(since))  # before a bare state there is nothing to go back to
            since = torch.where(cut, 1, since + 1)
            rows.append(since.unsqueeze(0))
        return torch.cat(rows), generator

    def _go_back(self, trace: Trace, c: Tensor, since: Tensor) -> LayerStates:
        """λ̂ of every row."""
        B, offset = trace.B, trace.T - len(c)
        total, v = trace.zeros(trace.T), trace.zeros(1)
        weights = self.weight(since.to(c)).unsqueeze(2)  # (T, B, 1)
        for t in reversed(range(trace.T)):
            here = [
                tuple(s[t * B : (t + 1) * B].copy_(d) for s, d in zip(sums, arrived, strict=True))
                for sums, arrived in zip(total, v, strict=True)
            ]
            if t >= offset:
                here[-1][0].add_(c[t - offset])  # c_t of (2), (3)
            trace.pull(t, t + 1, here, v)
            for state in v:
                for s in state:
                    s *= weights[t]  # (3), and (2) where it is 0
        return total


def _uniform(T: int, B: int, generator: torch.Generator) -> Tensor:
    """(T, B) numbers in [0, 1)."""
    return torch.rand(T, B, generator=generator, dtype=torch.float64)
