"""Truncated backpropagation through time, as defined by Williams & Peng.

At s = k1, 2·k1, …:

    λ_{s+1} = 0                                                         (1)
    for t = s … max(1, s − k2 + 1):
        λ_t = [t > s − k1] ∂L_t/∂h_t + λ_{t+1} J_{t+1}                  (2)
        dL/dθ += λ_t ∂f_t/∂θ                                            (3)

Every loss counts once and sees between k2 − k1 + 1 and k2 lags. k1 = k2 is the usual chunked form. (Another estimator adds the losses
of all k2 steps at every s, so that each loss counts k2/k1 times. This one does not.)

How it runs. The sequence is cut into segments where a window begins or ends. Each segment is run forward once and keeps what its
backward needs. A window's adjoint is passed from segment to segment, last to first, for k2 steps. A segment is dropped
when no later window reaches it, so memory is O(k2) for every T. Across calls, the last k2 − k1 steps of input are kept with the state
before them, and run forward again with the present parameters. A random initial state among them is drawn anew.

References: Williams & Peng, *An efficient gradient-based algorithm for on-line training of recurrent network trajectories*,
1990 (BPTT(h; h′), h = k2, h′ = k1). Sutskever, *Training recurrent neural networks*, 2013 (§2.8.6).
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from .. import _check
from .._check import InputError
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome, starting_state
from ._history import History
from ._stations import Segment, run


@final
@dataclass(frozen=True)
class TruncatedBPTT(AbstractGradient):
    """Every ``k1`` steps, the last k1 losses are taken back ``k2`` steps. The state is carried on, detached.

    This is the usual choice for long or endless sequences. Its bias is the gradient at the lags that it leaves out. It depends on the
    network as well as on the window; ``compare`` and ``gradient_flow`` measure it.

    If T is not a multiple of k1, the batch ends in a shorter window. It reaches back k2 steps too, as far as the batch and the k2 − k1
    steps kept from earlier batches go.

    Args:
        k1: steps between windows. ``TruncatedBPTT(64)`` means k1 = k2 = 64.
        k2: steps that a window reaches back; at least k1. None: k1.
        clip_adjoint: as in ``FullBPTT``.

    Raises:
        InputError: k1 below 1, k2 below k1.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> loss, carry = TruncatedBPTT(4, 8).accumulate(model, batch)  # losses 0–3, 4–7 and 8–11 see up to 8 steps each
    >>> loss, carry = TruncatedBPTT(4, 8).accumulate(model, batch, carry)  # the first of these reach back into the last call
    """

    k1: int
    k2: int | None = None
    clip_adjoint: float | None = None
    agrees = "within a window"
    streams_axis = 1

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
        history = History.of(batch, carry, repr(self))
        keep_from = max(0, history.T - (self.reach - self.k1))
        found = back_through_windows(model, history, self.k1, self.reach, keep_from=keep_from, clip=self.clip_adjoint)
        return Outcome(found.loss, Carry(found.last, history.kept_from(keep_from, found.kept_state), repr(self)))


class Windows(NamedTuple):
    """The results of a call's windows, in addition to the gradients that they added."""

    loss: Tensor  # ()
    last: State  # after the last step
    kept_state: State  # before row ``keep_from``


class _Placed(NamedTuple):
    """A segment and its rows start..stop−1."""

    segment: Segment
    start: int
    stop: int


def back_through_windows(model: AbstractModel, history: History, k1: int, k2: int, *, keep_from: int, clip: float | None) -> Windows:
    """(1)–(3) for every window of a history.

    Args:
        model: its gradients are added to.
        history: the rows; those before its batch have no losses.
        k1: steps between windows.
        k2: steps that a window reaches back.
        keep_from: the row whose starting state is returned as ``kept_state``.
        clip: as ``clip_adjoint``.
    """
    scale, total = model.scale(history.batch), torch.zeros(())
    windows = list(_windows(history, k1))
    cuts = _cuts(history, windows, k2, keep_from)
    segments: deque[_Placed] = deque()  # those that a later window may reach
    state = kept_state = history.state
    done = 0
    for start, stop in windows:
        for a, b in _between(cuts, done, stop):
            kept_state = state if a == keep_from else kept_state
            segment = run(model, model.enter(history.steps(a, b)), state, history.fresh[a], clip=clip)
            segments.append(_Placed(segment, a, b))
            state, done = segment.last, b
        total = total.to(segments[-1].segment.hs) + _go_back(model, history, segments, start, stop, scale)
        while segments and segments[0].stop <= min(stop + k1, history.T) - k2:
            segments.popleft().segment.finish()
    for placed in segments:
        placed.segment.finish()
    assert state is not None, "T is at least 1, so there was a window"
    kept_state = state if keep_from == history.T else starting_state(model, kept_state, None, history.batch.B)
    return Windows(total, state, kept_state)


def _go_back(model: AbstractModel, history: History, segments: deque[_Placed], start: int, stop: int, scale: float) -> Tensor:
    """One window: take the adjoint of the losses of rows start..stop−1 back through ``segments``, the last k2 steps.

    Returns:
        The loss.
    """
    hs = _join([placed.segment.hs for placed in segments if placed.start >= start])
    loss, dhs = model.loss_and_adjoint(hs, history.losses_at(start, stop), scale=scale)
    adjoint: State | None = None  # (1)
    for segment, a, b in reversed(segments):
        adjoint = segment.backward(dhs[a - start : b - start] if a >= start else None, adjoint)  # (2), (3)
    return loss


def _join(parts: list[Tensor]) -> Tensor:
    """Concatenate in time; a single part is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _windows(history: History, k1: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of each window's own losses."""
    for start in range(history.offset, history.T, k1):
        yield start, min(start + k1, history.T)


def _cuts(history: History, windows: list[tuple[int, int]], k2: int, keep_from: int) -> list[int]:
    """The rows at which segments end: where a window begins or ends, a stream starts anew, or the kept steps begin."""
    edges = {edge for _, stop in windows for edge in (stop, stop - k2)}
    return sorted(cut for cut in edges | {*history.restarts(), history.offset, keep_from} if 0 < cut <= history.T)


def _between(cuts: list[int], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of the segments that make up rows start..stop−1."""
    k = bisect_left(cuts, start + 1)
    while start < stop:
        yield start, cuts[k]
        start, k = cuts[k], k + 1
