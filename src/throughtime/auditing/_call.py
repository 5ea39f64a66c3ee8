"""One call of a recurrent layer, as the audit sees it: with time first.

T time · B batch · I input · P output · L layers · D directions.
"""

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@final
@dataclass(eq=False)
class Call:
    """One call. Tensors that belong to a graph are dropped after the backward pass."""

    module: nn.Module
    name: str
    number: int  # among all calls of a run
    step: int  # of the training step
    given: Tensor | PackedSequence  # the caller's layout, without its graph
    start: Tensor | None  # (B, ·) the states that came in; None: the layer's own start
    graded: bool
    previous: "Call | None" = None  # the call whose last states came in
    carried: Tensor = field(default_factory=lambda: torch.zeros(0))  # (B,) whether a row's state came from ``previous``
    attached: bool = False  # whether the incoming state has a graph
    own_lengths: Tensor | None = None  # (B,) what the layer itself was told
    probe: Tensor | None = None  # zeros that were added to the input
    output: Tensor | None = None
    states: tuple[Tensor, ...] = ()
    end: Tensor | None = None  # (B, ·)
    values: Tensor | None = None  # (T, B, P) copy of the output
    T: int = 0
    B: int = 0
    reads: Tensor | None = None  # (T, B) bool: the loss reads the output at this step
    trains: Tensor | None = None  # (T, B) bool: the input at this step receives a gradient

    @property
    def is_cell(self) -> bool:
        return isinstance(self.module, nn.RNNCellBase)

    def time_first(self, t: Tensor) -> Tensor:
        """(T, B, ·) from a tensor in the layout of the caller's input, which ``t`` may also be the gradient of."""
        if isinstance(self.given, PackedSequence):
            return pad_packed_sequence(PackedSequence(t, *self.given[1:]))[0]
        if self.is_cell:
            return t.reshape(1, -1, t.shape[-1])
        if t.ndim == 2:
            return t.unsqueeze(1)
        return t.transpose(0, 1) if self.module.batch_first else t

    def xs(self) -> Tensor:
        """(T, B, I) the input."""
        return self.time_first(data_of(self.given))

    def forget_graph(self) -> None:
        self.output, self.states = None, ()


def data_of(given: Any) -> Tensor:
    return given.data if isinstance(given, PackedSequence) else given


def rows(module: nn.Module, hx: Any) -> Tensor:
    """(B, ·) all states of each sequence, side by side."""
    states = hx if isinstance(hx, (tuple, list)) else (hx,)
    return torch.cat([_by_row(module, s.detach()) for s in states], 1)


def _by_row(module: nn.Module, s: Tensor) -> Tensor:
    if isinstance(module, nn.RNNCellBase):
        return s.reshape(-1, s.shape[-1])
    s = s if s.ndim == 3 else s.unsqueeze(1)
    return (s if getattr(module, "state_batch_first", False) else s.transpose(0, 1)).flatten(1)


def split(module: nn.Module, result: Any) -> tuple[Any, tuple[Tensor, ...]]:
    """The output and the last states, of a layer or of a cell."""
    if isinstance(module, nn.RNNCellBase):
        states = result if isinstance(result, tuple) else (result,)
        return states[0], states
    output, last = result
    return output, tuple(last) if isinstance(last, (tuple, list)) else (last,)
