"""How gradient methods run station ③: a stack of cells as a trace, and any other recurrence through autograd.

T time · B batch · I input · H hidden · L layers · S states.
"""

from dataclasses import replace
from typing import Literal, final

import torch
from torch import Tensor, nn

from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ..nn import Bidirectional, Padded, Recurrence, Rows, Trace
from ._base import starting_state


@final
class AutogradSegment:
    """A segment of any recurrence from (xs, state) to (hs, state), run with autograd's graph from its inputs to its outputs only."""

    def __init__(self, model: AbstractModel, xs: Tensor | Padded, state: State | None, fresh: Tensor | None) -> None:
        recurrence: nn.Module = model.recurrence
        self._source = xs.xs if isinstance(xs, Padded) else xs
        self._leaf = self._source.detach().requires_grad_(self._source.requires_grad)
        leaf = replace(xs, xs=self._leaf) if isinstance(xs, Padded) else self._leaf
        self._carried = None if state is None else tuple(s.detach().requires_grad_() for s in state)
        with torch.enable_grad():
            self._hs, self._last = recurrence(leaf, starting_state(model, self._carried, fresh, xs.shape[1]))
        self.hs, self.last = self._hs.detach(), tuple(s.detach() for s in self._last)

    def backward(self, dhs: Tensor | None, dlast: State | None) -> State:
        """Take adjoints from the outputs back to the carried state, as ``Trace.backward`` does."""
        ends = [(self._hs, dhs), *zip(self._last, (None,) * len(self._last) if dlast is None else dlast, strict=True)]
        ends = [(y, dy) for y, dy in ends if dy is not None and y.requires_grad]
        if ends:
            torch.autograd.backward([y for y, _ in ends], [dy for _, dy in ends], retain_graph=True)
        if self._carried is None:
            return tuple(torch.zeros_like(s) for s in self.last)
        adjoint = tuple(torch.zeros_like(s) if s.grad is None else s.grad for s in self._carried)
        for s in self._carried:
            s.grad = None
        return adjoint

    def finish(self) -> None:
        """Backpropagate the gradient of the input, as ``Trace.finish`` does."""
        if self._source.requires_grad and self._leaf.grad is not None:
            self._source.backward(self._leaf.grad)


Segment = Trace | AutogradSegment
"""Steps that were run forward and have a backward: ``hs``, ``last``, ``backward(dhs, dlast)``, ``finish()``."""


def run(
    model: AbstractModel,
    xs: Tensor | Rows | Padded,
    state: State | None,
    fresh: Tensor | None,
    *,
    clip: float | None = None,
    keep: Literal["none"] | None = None,
) -> Segment:
    """Run the model's recurrence over the output of station ②.

    Args:
        model: the model.
        xs: ``model.enter`` or ``model.embed`` of some steps.
        state: the carried state, S tensors (L, B, H); None: every stream starts anew.
        fresh: (B,) True for streams that start anew before the first step; None: no stream.
        clip: as ``clip_adjoint`` of ``FullBPTT``.
        keep: "none" if there will be no backward.

    Raises:
        NotImplementedError: a clip, for a recurrence that is not a stack of cells.
    """
    if isinstance(model.recurrence, Recurrence):
        assert not isinstance(xs, Padded), "it is for two directions"
        initial = _initial(model, state, fresh, xs.shape[1])
        return model.recurrence.trace(xs, state, fresh=fresh, initial=initial, keep=keep, clip_adjoint=clip)
    assert not isinstance(xs, Rows), "rows of a table enter a stack alone"
    if clip is not None:
        raise NotImplementedError(
            "clip_adjoint works inside the recursion of an nn.Recurrence; this model's recurrence is another module. Leave clip_adjoint "
            "out and clip the gradient's norm instead."
        )
    return AutogradSegment(model, xs, state, fresh)


def run_with_steps(
    model: AbstractModel,
    batch: Batch,
    state: State | None,
    fresh: Tensor | None,
    method: str,
    *,
    xs: Tensor | None = None,
    mask: Tensor | None = None,
    clip: float | None = None,
) -> Trace:
    """Run stations ② and ③ with a trace, so that adjoints and tangents can be taken through single steps.

    Args:
        model: the model.
        batch: its inputs are read.
        state: the carried state; None: every stream starts anew.
        fresh: (B,) or (T, B), True where streams start anew.
        method: the name of the method, for error messages.
        xs: the output of station ②; None: ``model.embed(batch)``.
        mask: (T, B, I) the dropout mask of ``xs``; None: no dropout.
        clip: as ``clip_adjoint`` of ``FullBPTT``.

    Raises:
        NotImplementedError: a recurrence that is not a stack of cells.
    """
    stack = stack_of(model, method)
    xs = model.embed(batch) if xs is None else xs
    return stack.trace(xs, state, fresh=fresh, initial=_initial(model, state, fresh, batch.B), mask=mask, clip_adjoint=clip)


def stack_of(model: AbstractModel, method: str) -> Recurrence:
    """The model's stack of cells.

    Raises:
        NotImplementedError: its recurrence is something else, which ``method`` cannot use.
    """
    if isinstance(model.recurrence, Bidirectional):
        raise NotImplementedError(
            f"{method} goes through time step by step in one direction, and a second direction begins at the sequence's end. "
            "Use FullBPTT(), or TruncatedBPTT(k) with k at least as long as the sequences."
        )
    if not isinstance(model.recurrence, Recurrence):
        raise NotImplementedError(
            f"{method} needs the cells, sizes and single steps of an nn.Recurrence, which {type(model.recurrence).__name__} does not tell. "
            "Build the model on nn.Recurrence(cell, ...), or use FullBPTT() or TruncatedBPTT(k1, k2)."
        )
    return model.recurrence


def _initial(model: AbstractModel, state: State | None, fresh: Tensor | None, batch_size: int) -> State | None:
    """The initial state, made only if a stream starts anew, since making it may draw random numbers."""
    return model.initial_state(batch_size) if state is None or (fresh is not None and bool(fresh.any())) else None
