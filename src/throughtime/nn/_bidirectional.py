"""Layers that read a sequence in both directions: station ③ of a model that labels whole sequences.

T time · B batch · I input · H hidden · O output, 2H · G gates · S states · L layers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .. import _check
from .._check import InputError
from .._shapes import State
from ..cells import AbstractCell
from ..kernels import Parameters, Traversal, learned_vectors, recurrence
from ._initial import AbstractInitial, Zeros
from ._initialisers import AbstractInitialiser, TorchUniform, from_torchs


@final
@dataclass(frozen=True, eq=False)
class Padded:
    """Sequences of different lengths, as ``Bidirectional`` accepts them in place of ``xs``.

    Attributes:
        xs: (T, B, I), 0 after a sequence's end.
        lengths: (B,) the steps of each; the backward direction begins at the last of them.

    >>> masked = Padded.of(torch.tensor([[[5.0]], [[6.0]]]), torch.tensor([[True], [False]]))
    >>> masked.xs.flatten().tolist(), masked.lengths.tolist()
    ([5.0, 0.0], [1])
    """

    xs: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, xs: Float[Tensor, "T B I"], mask: Bool[Tensor, "T B"]) -> "Padded":
        """From a mask, False for padding: a sequence ends at the last step where it is True."""
        steps = torch.arange(1, len(xs) + 1, device=xs.device).unsqueeze(1)
        return cls(xs.where(mask.unsqueeze(2), 0), (steps * mask).amax(0))

    @property
    def shape(self) -> torch.Size:
        """(T, B, I)."""
        return self.xs.shape


class Pass(NamedTuple):
    """One layer in one direction."""

    suffix: str  # of its parameters' names, as in torch
    reverse: bool


@final
class Bidirectional(nn.Module):
    """L layers, each of which reads from the first step to the last and from the last to the first.

    Use it where the whole sequence is there before its label is asked for. A model that predicts the next step must not read it, since
    the second direction has seen that step.

    Parameters have the names, order and initialisation of ``torch.nn.RNN/GRU/LSTM`` with ``bidirectional=True``. The input of a layer
    above the first is (T, B, 2H): the forward h beside the backward h of the layer below.

    Args:
        cell: the recurrent cell.
        input_size: I.
        hidden_size: H of each direction.
        num_layers: L.
        bias: whether the layers have b_ih and b_hh.
        dropout: the probability of dropout, in training, on the output of every layer except the last.
        ends: the backward half of every output is the backward direction's last h, which has read the whole sequence, in place of its
            h at that step. At a sequence's last step both halves have then read all of it.
        initial: the rule for the state before the first step of each direction.
        initialisers: the rules for the weights, applied in order to torch's initial weights.

    Raises:
        InputError: as ``Recurrence``.

    >>> from throughtime import cells
    >>> layers = Bidirectional(cells.GRU(), 3, 5, num_layers=2)
    >>> hs, state = layers(torch.randn(7, 4, 3))
    >>> hs.shape, [s.shape for s in state]
    (torch.Size([7, 4, 10]), [torch.Size([4, 4, 5])])
    """

    def __init__(
        self,
        cell: AbstractCell,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        dropout: float = 0.0,
        ends: bool = False,
        initial: AbstractInitial = Zeros(),  # noqa: B008  a frozen dataclass
        initialisers: Sequence[AbstractInitialiser] = (TorchUniform(),),
    ) -> None:
        super().__init__()
        _check.instance("cell", cell, AbstractCell, "cells.GRU(), cells.LSTM() or cells.Elman()")
        self.cell, self.bias, self.ends, self.initial_rule = cell, bias, ends, initial
        self.input_size = _check.positive("input_size", input_size)
        self.hidden_size = _check.positive("hidden_size", hidden_size)
        self.num_layers = _check.positive("num_layers", num_layers)
        self.dropout = _check.fraction("dropout", dropout)
        if learned_vectors(cell):
            raise InputError(
                f"{type(cell).__name__} has learned vectors of its own, which both directions would share; expected a cell without. Use "
                "Recurrence, which has one direction."
            )
        if cell.constraint(self.hidden_size) is not None:
            raise InputError(
                f"{type(cell).__name__} restricts R, which Recurrence alone does; expected a cell whose R is free. Use Recurrence."
            )
        for suffix, _ in self._passes():
            self._add_parameters(suffix, input_size if suffix.startswith("l0") else 2 * hidden_size)
        if initial.learnable:
            self.initial = nn.Parameter(torch.zeros(cell.states, 2 * num_layers, hidden_size))
        layers = [self._parameters_of(suffix).map(self._with_gates) for suffix, _ in self._passes()]
        for rule in from_torchs(initialisers):
            rule(cell, layers)

    @property
    def output_size(self) -> int:
        """2H."""
        return 2 * self.hidden_size

    def initial_state(self, batch_size: int) -> State:
        """S tensors (2L, B, H), made by the ``initial`` rule; forward and backward of each layer, as in torch."""
        shape = (self.cell.states, 2 * self.num_layers, _check.positive("batch_size", batch_size), self.hidden_size)
        like = self.initial if self.initial_rule.learnable else self.get_parameter("weight_hh_l0").detach()
        return self.initial_rule.make(shape, like).unbind(0)

    def forward(self, xs: Float[Tensor, "T B I"] | Padded, state: State | None = None) -> tuple[Float[Tensor, "T B O"], State]:
        """Run all layers in both directions.

        Args:
            xs: inputs, time first. The backward direction begins at step T, or where they are ``Padded`` at each sequence's own end.
            state: S tensors (2L, B, H) before the first step of each direction; None: the initial state.

        Returns:
            The two directions' h beside each other, 0 after a sequence's end; and the state after each direction's last step.

        Raises:
            InputError: xs or state of other shapes.
        """
        xs, lengths = (xs.xs, xs.lengths) if isinstance(xs, Padded) else (xs, None)
        _check.tensor("xs", xs)
        _check.sequence_input(xs.shape, self.input_size)
        state = self.initial_state(xs.shape[1]) if state is None else state
        _check.state(state, [(2 * self.num_layers, xs.shape[1], self.hidden_size)] * self.cell.states)
        below, halves, lasts = xs, list[Tensor](), list[State]()
        for k, (suffix, reverse) in enumerate(self._passes()):
            if k and not reverse:
                below = nn.functional.dropout(torch.cat(halves, -1), self.dropout, self.training)
                halves.clear()
            before, traversal = tuple(s[k] for s in state), Traversal(lengths=lengths, reverse=reverse)
            hs, last = recurrence(self.cell, below, before, self._parameters_of(suffix), traversal=traversal)
            halves.append(hs)
            lasts.append(last)
        if self.ends:
            halves[1] = lasts[-1][0].expand_as(halves[1])
        return torch.cat(halves, -1), tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))

    def _passes(self) -> Iterator[Pass]:
        """In torch's order."""
        for layer in range(self.num_layers):
            yield Pass(f"l{layer}", False)
            yield Pass(f"l{layer}_reverse", True)

    def _add_parameters(self, suffix: str, columns: int) -> None:
        rows, recurrent_rows = self.cell.gates * self.hidden_size, self.cell.rh_gates * self.hidden_size
        self.register_parameter(f"weight_ih_{suffix}", nn.Parameter(torch.empty(rows, columns)))
        self.register_parameter(f"weight_hh_{suffix}", nn.Parameter(torch.empty(recurrent_rows, self.hidden_size)))
        if self.bias:
            self.register_parameter(f"bias_ih_{suffix}", nn.Parameter(torch.empty(rows)))
            self.register_parameter(f"bias_hh_{suffix}", nn.Parameter(torch.empty(recurrent_rows)))

    def _parameters_of(self, suffix: str) -> Parameters:
        """As they are stored, (G·H, ·)."""
        weights = (self.get_parameter(f"{name}_{suffix}") for name in ("weight_ih", "weight_hh"))
        biases = (self.get_parameter(f"{name}_{suffix}") if self.bias else None for name in ("bias_ih", "bias_hh"))
        return Parameters(*weights, *biases)

    def _with_gates(self, p: Tensor) -> Tensor:
        """A view (G, H, ·) without gradient."""
        return p.detach().view(len(p) // self.hidden_size, self.hidden_size, *p.shape[1:])

    def extra_repr(self) -> str:
        return f"{self.cell}, {self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, ends={self.ends}"
