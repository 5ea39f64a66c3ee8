"""A stretch of time steps, run forward once, cut off at both its borders, where gradients are handed over.

T time · B batch · I input · H hidden · L layers · S states.
"""

from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from ..._shapes import State
from ...models import AbstractModel
from ...nn import Rows
from .._base import entering


@final
class Piece:
    """Station ③ over what station ② gave.

    Args:
        model: whose stations they are.
        entered: ``model.enter`` of the stretch's inputs.
        state: the state carried in, S tensors (L, B, H), taken as a leaf; None: every stream starts from the model's initial state.
        fresh: (B,), the streams that start anew before the first step; None: none.
        start: the first step's place in a longer sequence.
        clip_adjoint: as in ``FullBPTT``.

    Attributes:
        start, stop: steps start..stop−1 of that sequence.
        entering: the state before the first step: the carried one where a stream goes on.
        hs: (T, B, H).
        leaving: the state after the last step.
    """

    def __init__(
        self,
        model: AbstractModel,
        entered: Tensor | Rows,
        state: State | None,
        fresh: Tensor | None,
        *,
        start: int = 0,
        clip_adjoint: float | None = None,
    ) -> None:
        self.start, self.stop = start, start + entered.shape[0]
        self._source = _source(entered)
        self._leaf = self._source.detach().requires_grad_(self._source.requires_grad)
        self._carried = None if state is None else tuple(s.detach().requires_grad_() for s in state)
        self.entering = entering(model, self._carried, fresh, entered.shape[1])
        self.hs, self.leaving = model.recurrence(_made_of(self._leaf, entered), self.entering, clip_adjoint=clip_adjoint)

    def back(self, dhs: Tensor | None, dleaving: State | None, *, again: bool) -> State | None:
        """Add this piece's gradients, given those of its outputs and of the state that leaves it; return that of the state carried in.

        ``again``: whether it will be gone back through once more, and must keep what that needs.
        """
        ends = [] if dhs is None else [(self.hs, dhs)]
        ends += [] if dleaving is None else list(zip(self.leaving, dleaving, strict=True))
        ends = [(y, dy) for y, dy in ends if y.requires_grad]  # a frozen recurrence has nothing to learn
        if ends:
            torch.autograd.backward([y for y, _ in ends], [dy for _, dy in ends], retain_graph=again)
        if self._carried is None:
            return None
        adjoint = tuple(torch.zeros_like(s) if s.grad is None else s.grad for s in self._carried)
        for s in self._carried:
            s.grad = None
        return adjoint

    def finish(self) -> None:
        """Nothing will come back here: hand the gradient of its input on to what made it."""
        if self._source.requires_grad and self._leaf.grad is not None:
            self._source.backward(self._leaf.grad)


def _source(entered: Tensor | Rows) -> Tensor:
    """What the recurrence's input is made of: the vectors, the table, or the table's product with the first layer's weights."""
    if isinstance(entered, Tensor):
        return entered
    return entered.table if entered.product is None else entered.product


def _made_of(leaf: Tensor, entered: Tensor | Rows) -> Tensor | Rows:
    """The same input, made of a leaf in place of its source."""
    if isinstance(entered, Tensor):
        return leaf
    return replace(entered, table=leaf) if entered.product is None else replace(entered, product=leaf)
