"""The start of a method that runs forward in time: the carry, the trace of the batch, and the embedding's rows.

T time · B batch · I input · H hidden · S states · L layers.

The layers together are one state, s_t = (s_t^0 … s_t^{L−1}). Its Jacobian J_t is block lower triangular: layer l depends on its own
past and, through x_t^l, on the layers below at the same step. The whole J_t is never formed; ``LayerTrace.at`` gives its blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from ... import _check
from ..._shapes import State
from ...cells import AbstractCell
from ...data import Batch
from ...kernels import learned_vectors
from ...models import AbstractModel, Embedding
from ...nn import LayerTrace, Trace, drawn_mask
from .._base import Carry, carried_state, starting_state
from .._stations import run_with_steps, stack_of
from ._table import Table


class Entry(NamedTuple):
    """The starting point of a call."""

    state: State  # S tensors (L, B, H), detached; for fresh streams the initial state
    fresh: Tensor  # (B,) True for streams that start here
    kept: Mapping[str, Tensor]  # the method's tensors in the carry; empty for the first call and after another method


@final
@dataclass(frozen=True, eq=False)
class ForwardRun:
    """One run of a batch."""

    trace: Trace
    table: Table | None  # where the input station is an embedding

    @property
    def layers(self) -> list[LayerTrace]:
        return self.trace.layers

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """S, L, B, H."""
        S, (L, B, H) = len(self.trace.last), self.trace.last[0].shape
        return S, L, B, H


def enter(model: AbstractModel, batch: Batch, carry: Carry | State | None, method: str) -> Entry:
    """The state to start from, and the method's tensors in the carry.

    Raises:
        NotImplementedError: an initial state that is a subclass's own and depends on parameters.
    """
    state = carried_state(carry, method)
    none = torch.zeros(batch.B, dtype=torch.bool, device=batch.inputs.device)
    if state is None:
        return Entry(_detached(_initial(model, batch.B, method)), ~none, {})
    r = stack_of(model, method)
    _check.state(state, [(r.num_layers, batch.B, r.hidden_size)] * r.cell.states)
    if batch.fresh is None or not bool(batch.fresh.any()):
        return Entry(_detached(state), none, carry.kept if isinstance(carry, Carry) else {})
    _initial(model, batch.B, method)
    state = starting_state(model, state, batch.fresh, batch.B)
    return Entry(_detached(state), batch.fresh, carry.kept if isinstance(carry, Carry) else {})


@torch.no_grad()
def run_forward(model: AbstractModel, batch: Batch, entry: Entry, method: str) -> ForwardRun:
    """Run stations ② and ③ over the batch.

    Raises:
        NotImplementedError: an input station whose parameters are not an embedding's; a recurrence that is not a stack of cells.
    """
    if isinstance(model.input, Embedding) and not model.has_own("embed"):
        with torch.enable_grad():
            xs = model.input(batch.inputs)
        mask = drawn_mask(xs.detach(), model.input_dropout.p if model.training else 0.0)
        table = Table.of(model.input.weight, batch, entry.kept)
    else:
        with torch.enable_grad():
            xs, mask, table = model.embed(batch), None, None
        _refuse_parameters(model, xs, method)
    if isinstance(cell := getattr(model.recurrence, "cell", None), AbstractCell):  # any other recurrence is refused by whoever runs it
        _refuse_cell(cell, method)
    return ForwardRun(run_with_steps(model, batch, entry.state, None, method, xs=xs, mask=mask), table)


def restart(kept: Tensor, fresh: Tensor, begin: Tensor | float = 0.0) -> Tensor:
    """``kept`` (B, …), with ``begin`` in the rows of streams that start anew."""
    if not bool(fresh.any()):
        return kept
    return torch.where(fresh.view(-1, *[1] * (kept.ndim - 1)), torch.as_tensor(begin, dtype=kept.dtype, device=kept.device), kept)


def learns_initial(model: AbstractModel) -> bool:
    """Whether the state before the first step is a parameter."""
    return model.recurrence.initial_rule.learnable


def _refuse_parameters(model: AbstractModel, xs: Tensor, method: str) -> None:
    if xs.requires_grad:
        station = f"{type(model).__name__}.embed" if model.has_own("embed") else type(model.input).__name__
        raise NotImplementedError(
            f"{method} runs forward in time and knows how a state depends on an Embedding's rows, not on the parameters behind {station}. "
            "FullBPTT() and TruncatedBPTT(k1, k2) would do: autograd differentiates the input station."
        )


def _refuse_cell(cell: AbstractCell, method: str) -> None:
    """Refuse a cell whose parameters' influence is not known in closed form."""
    if cell.late_gates > 0:
        raise NotImplementedError(
            f"{method} runs forward in time and knows how a state depends on R h; {type(cell).__name__} has late gates, whose R "
            "multiplies what other gates decide. FullBPTT(), TruncatedBPTT(k1, k2), CheckpointedBPTT(...) and SlidingBPTT(window) would do."
        )
    if learned_vectors(cell) and not cell.elementwise:
        raise NotImplementedError(
            f"{method} runs forward in time, and {type(cell).__name__} has learned vectors of its own whose units it mixes, or "
            "does not say elementwise = True. FullBPTT(), TruncatedBPTT(k1, k2) and CheckpointedBPTT(...) would do."
        )


def _initial(model: AbstractModel, batch_size: int, method: str) -> State:
    initial = model.initial_state(batch_size)
    if model.has_own("initial_state") and any(s.requires_grad for s in initial):
        raise NotImplementedError(
            f"{method} runs forward in time and knows how a state depends on nn.Learnable(), not on the parameters behind "
            f"{type(model).__name__}.initial_state. FullBPTT() and TruncatedBPTT(k1, k2) would do."
        )
    return initial


def _detached(state: State) -> State:
    return tuple(s.detach() for s in state)
