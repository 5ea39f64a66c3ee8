"""Station ③ as gradient methods run it: a stack as its trace; anybody else's recurrence through autograd, or not at all.

T time · B batch · I input · H hidden · L layers · S states.
"""

from typing import Literal, final

import torch
from torch import Tensor, nn

from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ..nn import Recurrence, Rows, Trace
from ._base import starting_state


@final
class AutogradSegment:
    """Any module from (xs, state) to (hs, state), run with its graph, cut off at both its borders."""

    def __init__(self, model: AbstractModel, xs: Tensor, state: State | None, fresh: Tensor | None) -> None:
        recurrence: nn.Module = model.recurrence
        self._source, self._leaf = xs, xs.detach().requires_grad_(xs.requires_grad)
        self._carried = None if state is None else tuple(s.detach().requires_grad_() for s in state)
        with torch.enable_grad():
            self._hs, self._last = recurrence(self._leaf, starting_state(model, self._carried, fresh, xs.shape[1]))
        self.hs, self.last = self._hs.detach(), tuple(s.detach() for s in self._last)

    def backward(self, dhs: Tensor | None, dlast: State | None) -> State:
        """As ``Trace.backward``."""
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
        """As ``Trace.finish``."""
        if self._source.requires_grad and self._leaf.grad is not None:
            self._source.backward(self._leaf.grad)


Segment = Trace | AutogradSegment
"""Some steps that were run forward and can be gone back through: ``hs``, ``last``, ``backward(dhs, dlast)``, ``finish()``."""


def run(
    model: AbstractModel,
    xs: Tensor | Rows,
    state: State | None,
    fresh: Tensor | None,
    *,
    clip: float | None = None,
    keep: Literal["none"] | None = None,
) -> Segment:
    """Run the model's recurrence over what station ② gave.

    Args:
        model: whose recurrence it is.
        xs: ``model.enter`` of some steps, or ``model.embed``.
        state: carried in, S tensors (L, B, H); None: every stream begins anew.
        fresh: (B,), the streams that begin anew before the first step; None: none.
        clip: as ``clip_adjoint`` of ``FullBPTT``.
        keep: "none": nothing will go back through it.

    Raises:
        NotImplementedError: a clip, for a recurrence that is not a stack of cells.
    """
    if isinstance(model.recurrence, Recurrence):
        initial = _initial(model, state, fresh, xs.shape[1])
        return model.recurrence.trace(xs, state, fresh=fresh, initial=initial, keep=keep, clip_adjoint=clip)
    assert isinstance(xs, Tensor), "rows of a table enter a stack alone"
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
    """Run stations ② and ③ so that adjoints and tangents can be taken through every single step.

    Args:
        model: whose stations they are.
        batch: whose inputs are read.
        state: carried in; None: every stream begins anew.
        fresh: (B,) or (T, B), where streams begin anew.
        method: who asks.
        mask: (T, B, I) what dropout multiplies ``xs`` by; None: nothing.
        xs: what station ② gives; None: ``model.embed(batch)``.
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
    if not isinstance(model.recurrence, Recurrence):
        raise NotImplementedError(
            f"{method} needs the cells, sizes and single steps of an nn.Recurrence, which {type(model.recurrence).__name__} does not tell. "
            "Build the model on nn.Recurrence(cell, ...), or use FullBPTT() or TruncatedBPTT(k1, k2)."
        )
    return model.recurrence


def _initial(model: AbstractModel, state: State | None, fresh: Tensor | None, batch_size: int) -> State | None:
    """The state that streams begin from, made only where one does: making it may draw random numbers."""
    return model.initial_state(batch_size) if state is None or (fresh is not None and bool(fresh.any())) else None
