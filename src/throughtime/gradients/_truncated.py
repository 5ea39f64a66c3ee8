"""Truncated backpropagation through time, as Williams & Peng define it.

At s = k1, 2·k1, …:

    λ_{s+1} = 0                                                         (1)
    for t = s … max(1, s − k2 + 1):
        λ_t = [t > s − k1] ∂L_t/∂h_t + λ_{t+1} J_{t+1}                  (2)
        dL/dθ += λ_t ∂f_t/∂θ                                            (3)

Every loss counts once and sees between k2 − k1 + 1 and k2 lags. k1 = k2 is the usual chunked form. (Adding the losses of
all k2 steps at every s is another estimator, in which each loss counts k2/k1 times; this is not it.)

How it runs. The sequence is cut into pieces wherever a window begins or ends. Each piece is run forward once and keeps what its
own backward needs; a window's adjoint is then handed from piece to piece, last to first, until k2 steps are done. A piece is let
go when no later window reaches it, so memory is O(k2), whatever T is. Across calls the last k2 − k1 steps of input are kept with
the state before them, and run forward again ("replay") under the parameters of the day; a random initial state among them is
drawn anew.

References: Williams & Peng, *An efficient gradient-based algorithm for on-line training of recurrent network trajectories*,
1990 (BPTT(h; h′), h = k2, h′ = k1). Sutskever, *Training recurrent neural networks*, 2013 (§2.8.6).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .. import _check
from .._check import InputError
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome, carried_state
from .reverse._piece import Piece
from .reverse._stretch import Stretch


@final
@dataclass(frozen=True)
class TruncatedBPTT(AbstractGradient):
    """Every ``k1`` steps, the last k1 losses go back ``k2`` steps; the state is carried on, detached.

    A batch whose T is no multiple of k1 ends in a shorter window, which reaches back k2 steps too, as far as the batch and the k2 − k1
    steps kept from earlier ones go.

    Args:
        k1: steps between windows. ``TruncatedBPTT(64)`` means k1 = k2 = 64.
        k2: steps that a window reaches back; at least k1. None: k1.
        clip_adjoint: as in ``FullBPTT``.

    Raises:
        InputError: k1 below 1, k2 below k1.
    """

    k1: int
    k2: int | None = None
    clip_adjoint: float | None = None
    agrees = "within a window"

    def __post_init__(self) -> None:
        _check.positive("k1", self.k1)
        if self.k2 is not None and not _check.positive("k2", self.k2) >= self.k1:
            raise InputError(
                f"k2 is {self.k2} and k1 is {self.k1}; expected k2 of at least k1: a loss that is reached only every k1 steps must go back "
                "at least to the window before. Raise k2 or lower k1."
            )
        if self.clip_adjoint is not None:
            _check.above_zero("clip_adjoint", self.clip_adjoint, remedy="None switches it off.")

    @property
    def reach(self) -> int:
        """k2."""
        return self.k1 if self.k2 is None else self.k2

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        stretch = Stretch.of(batch, carry, carried_state(carry, repr(self)))
        scale, total = model.scale(batch), 0.0
        keep_from = max(0, stretch.T - (self.reach - self.k1))
        cuts = _cuts(stretch, self.k1, self.reach, keep_from)
        pieces: deque[Piece] = deque()  # those that a later window may reach
        state, entered, done = stretch.state, stretch.state, 0
        for start, stop in _windows(stretch, self.k1):
            for a, b in _between(cuts, done, stop):
                xs = model.enter(Batch(stretch.inputs[a:b], stretch.inputs[a:b]))  # which looks at the inputs alone
                pieces.append(Piece(model, xs, state, stretch.fresh[a], start=a, clip_adjoint=self.clip_adjoint))
                entered = pieces[-1].entering if a == keep_from else entered
                state, done = pieces[-1].leaving, b
            total = total + self._go_back(model, stretch, pieces, start, stop, scale)
            while pieces and pieces[0].stop <= min(stop + self.k1, stretch.T) - self.reach:
                pieces.popleft().finish()
        for piece in pieces:
            piece.finish()
        assert state is not None, "T is at least 1, so there was a window"
        assert isinstance(total, Tensor), "as above"
        return Outcome(total, Carry(_detach(state), stretch.history(keep_from, entered), repr(self)))

    def _go_back(self, model: AbstractModel, stretch: Stretch, pieces: deque[Piece], start: int, stop: int, scale: float) -> Tensor:
        """One window: the losses of steps start..stop−1, and their adjoint handed back through ``pieces``, the last k2 steps.

        Returns the loss.
        """
        inside = [piece for piece in pieces if piece.start >= start]
        hs = _join([piece.hs.detach() for piece in inside]).requires_grad_()
        loss = model.losses(hs, stretch.batch.steps(start - stretch.offset, stop - stretch.offset)).sum() * scale
        loss.backward()  # the head's own gradient, and dhs = ∂L_t/∂h_t
        assert hs.grad is not None, "losses are a function of hs"
        adjoint: State | None = None  # (1)
        for piece in reversed(pieces):
            dhs = hs.grad[piece.start - start : piece.stop - start] if piece.start >= start else None
            adjoint = piece.back(dhs, adjoint, again=True)  # (2), (3)
        return loss.detach()


def _join(parts: list[Tensor]) -> Tensor:
    """End to end in time; one part alone is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _detach(state: State) -> State:
    return tuple(s.detach() for s in state)


def _windows(stretch: Stretch, k1: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of each window's losses."""
    for start in range(stretch.offset, stretch.T, k1):
        yield start, min(start + k1, stretch.T)


def _cuts(stretch: Stretch, k1: int, k2: int, keep_from: int) -> list[int]:
    """Where pieces end: where a window begins or ends, where a stream starts anew, where the kept history begins."""
    windows = {edge for _, stop in _windows(stretch, k1) for edge in (stop, stop - k2)}
    restarts = set(stretch.fresh.any(1).nonzero().flatten().tolist())
    return sorted(cut for cut in windows | restarts | {stretch.offset, keep_from} if 0 < cut <= stretch.T)


def _between(cuts: list[int], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The pieces that make up rows start..stop−1."""
    for cut in cuts:
        if start < cut <= stop:
            yield start, cut
            start = cut
