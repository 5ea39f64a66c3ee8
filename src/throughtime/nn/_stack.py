"""A stack of recurrent layers: station ③ of a model.

T time · B batch · I input · H hidden · G gates · S states · L layers.
"""

import copy
from collections.abc import Sequence
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import _check
from .._check import InputError
from .._shapes import State
from ..cells import AbstractCell
from ..kernels import LayerParameters, Memory, Parameters, RecurrentParameters, learned_vectors, recurrence
from ._dropout import drawn_mask
from ._initial import AbstractInitial, Zeros
from ._initialisers import AbstractInitialiser, TorchUniform, from_torchs
from ._rows import Rows
from ._short import short_stack
from ._trace import Stack, Trace


@final
class Recurrence(nn.Module):
    """L layers of one cell; each layer's h is the next layer's input.

    Parameters are named, ordered and initialised as those of ``torch.nn.RNN/GRU/LSTM`` (``weight_ih_l0`` …), so a
    ``state_dict`` can be loaded in either direction. Backward is the hand-written recursion of ``throughtime.kernels``.

    Args:
        cell: ``cells.Elman(...)``, ``cells.GRU()``, ``cells.LSTM()`` or your own.
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether the layers have b_ih and b_hh.
        dropout: the probability of dropout, in training, on the output of every layer except the last.
        initial: the rule for the state before the first step.
        initialisers: the rules for the weights, applied in order to torch's initial weights.
        memory: "fast" keeps every gate for backward. "lean" keeps some of the states and recomputes the gates, in a quarter of
            the memory for GRU and LSTM. Both give the same numbers.

    Raises:
        InputError: a cell that is not an instance of ``AbstractCell``, a size that is not a positive integer, a dropout outside [0, 1).

    >>> from throughtime import cells
    >>> stack = Recurrence(cells.GRU(), 3, 5, num_layers=2)
    >>> hs, state = stack(torch.zeros(7, 4, 3))
    >>> hs.shape, [s.shape for s in state]
    (torch.Size([7, 4, 5]), [torch.Size([2, 4, 5])])
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
        initial: AbstractInitial = Zeros(),  # noqa: B008  a frozen dataclass
        initialisers: Sequence[AbstractInitialiser] = (TorchUniform(),),
        memory: Memory = "fast",
    ) -> None:
        super().__init__()
        _check.instance("cell", cell, AbstractCell, "cells.GRU(), cells.LSTM() or cells.Elman()")
        _check.one_of("memory", memory, ("fast", "lean"))
        if not 0 <= cell.late_gates <= cell.rh_gates:
            raise InputError(
                f"{type(cell).__name__} has recurrent_gates = {cell.rh_gates} and late_gates = {cell.late_gates}; expected 0 or more, "
                "and no more late ones than recurrent ones."
            )
        self.cell, self.bias, self.initial_rule = cell, bias, initial
        self.memory: Memory = memory
        self.input_size = _check.positive("input_size", input_size)
        self.hidden_size = _check.positive("hidden_size", hidden_size)
        self.num_layers = _check.positive("num_layers", num_layers)
        self.dropout = _check.fraction("dropout", dropout)
        for layer in range(1, num_layers):
            self._give_cell(layer)
        rows, recurrent_rows = cell.gates * hidden_size, cell.rh_gates * hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else hidden_size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(rows, columns)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(recurrent_rows, hidden_size)))
            if bias:
                self.register_parameter(f"bias_ih_l{layer}", nn.Parameter(torch.empty(rows)))
                self.register_parameter(f"bias_hh_l{layer}", nn.Parameter(torch.empty(recurrent_rows)))
        if initial.learnable:
            self.initial = nn.Parameter(torch.zeros(cell.states, num_layers, hidden_size))
        layers = [self.parameters_of(k).map(Tensor.detach) for k in range(num_layers)]
        for rule in from_torchs(initialisers):
            rule(cell, layers)
        for layer in range(num_layers):
            if (constraint := cell.constraint(hidden_size)) is not None:
                parametrize.register_parametrization(self, f"weight_hh_l{layer}", constraint)

    def _give_cell(self, layer: int) -> None:
        """A cell of the layer's own, where layers would otherwise share learned vectors.

        Raises:
            InputError: the cell is no module, so that nobody would find the vectors of its copies.
        """
        if not learned_vectors(self.cell):
            return
        if not isinstance(self.cell, nn.Module):
            raise InputError(
                f"num_layers is {self.num_layers}, and {type(self.cell).__name__} has learned vectors of its own and is no nn.Module, "
                "whose copies would be parameters of their layers; expected 1, or a cell that is a module."
            )
        setattr(self, f"cell_l{layer}", copy.deepcopy(self.cell))

    def cell_of(self, layer: int) -> AbstractCell:
        """One layer's cell: ``cell``, or where that has learned vectors, the layer's copy of it."""
        return getattr(self, f"cell_l{layer}", self.cell)

    def parameters_of(self, layer: int) -> Parameters:
        """One layer's weights as they are used, views with the gate axis: W (G, H, I), R (G, H, H), b_ih, b_hh (G, H) or None."""
        H = self.hidden_size
        return self.stored_parameters_of(layer).map(lambda p: p.view(len(p) // H, H, *p.shape[1:]))

    def stored_parameters_of(self, layer: int) -> Parameters:
        """One layer's weights as torch stores them, (G·H, ·). One that torch.nn.utils.parametrize restricts is a function of its own."""
        with torch.enable_grad():
            weights = (getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh"))
            biases = (getattr(self, f"{name}_l{layer}") if self.bias else None for name in ("bias_ih", "bias_hh"))
            return Parameters(*weights, *biases)

    def initial_state(self, batch_size: int) -> State:
        """S tensors (L, B, H), made by the stack's ``initial`` rule."""
        shape = (self.cell.states, self.num_layers, _check.positive("batch_size", batch_size), self.hidden_size)
        like = self.initial if self.initial_rule.learnable else self.get_parameter("bias_ih_l0" if self.bias else "weight_ih_l0").detach()
        return self.initial_rule.make(shape, like).unbind(0)

    def forward(
        self,
        xs: Float[Tensor, "T B I"] | Rows,
        state: State | None = None,
        *,
        clip_adjoint: float | None = None,
    ) -> tuple[Float[Tensor, "T B H"], State]:
        """Run the stack.

        Args:
            xs: inputs, time first; or rows of a table.
            state: S tensors (L, B, H); None: the stack's initial state.
            clip_adjoint: the most norm of each sample's adjoint λ_t of each layer. Backward scales larger ones down at every step,
                inside the recursion. None: no clipping.

        Returns:
            Every step's h of the last layer, and the state after the last step, S tensors (L, B, H).

        Raises:
            InputError: xs or state of other shapes.
        """
        if clip_adjoint is None and not torch.compiler.is_compiling() and (found := short_stack(self, xs, state)) is not None:
            return found
        if not isinstance(xs, Rows):
            _check.tensor("xs", xs)
        _check.sequence_input(xs.shape, self.input_size)
        B = xs.shape[1]
        state = self.initial_state(B) if state is None else state
        _check.state(state, [(self.num_layers, B, self.hidden_size)] * self.cell.states)
        below, parameters = self._first_input(xs)
        layers_last = []
        for layer in range(self.num_layers):
            if layer > 0:
                mask, parameters = drawn_mask(below, self.dropout if self.training else 0.0), self.stored_parameters_of(layer)
                below = below if mask is None else below * mask
            before = tuple(s[layer] for s in state)
            below, last = recurrence(self.cell_of(layer), below, before, parameters, clip_adjoint=clip_adjoint, memory=self.memory)
            layers_last.append(last)
        if self.num_layers == 1:
            return below, tuple(s.unsqueeze(0) for s in layers_last[0])
        return below, tuple(torch.stack(parts) for parts in zip(*layers_last, strict=True))

    def _first_input(self, xs: Tensor | Rows) -> tuple[Tensor, LayerParameters]:
        """The first layer's arguments: vectors and all weights; or for rows, wx (T, B, G, H) and the recurrent weights."""
        W, R, b_ih, b_hh = self.stored_parameters_of(0)
        if isinstance(xs, Tensor):
            return xs, Parameters(W, R, b_ih, b_hh)
        wx = xs.through(W, b_ih)
        return wx.view(*xs.index.shape, self.cell.gates, self.hidden_size), RecurrentParameters(R, b_hh)

    def trace(
        self,
        xs: Float[Tensor, "T B I"] | Rows,
        state: State | None = None,
        *,
        fresh: Bool[Tensor, "*T B"] | None = None,
        initial: State | None = None,
        mask: Float[Tensor, "T B I"] | None = None,
        keep: Literal["fast", "lean", "none"] | None = None,
        clip_adjoint: float | None = None,
    ) -> Trace:
        """Run the stack and keep what its derivatives need. Gradient methods and ``gradient_flow`` use this instead of ``forward``.

        Args:
            xs: inputs, time first; or rows of a table.
            state: S tensors (L, B, H); None: every stream starts at the first step.
            fresh: True for streams that start anew: (B,) before the first step, or (T, B) before step t. None: no stream.
            initial: the state that these streams start from, S tensors (L, B, H), with its graph; None: the stack's own.
            mask: (T, B, I) the dropout mask that multiplies ``xs``; None: no dropout.
            keep: what is kept for ``Trace.backward``: "fast" or "lean", as the stack's ``memory``, or "none", after which only the
                output and the last state are available. None: the stack's ``memory``.
            clip_adjoint: as in ``forward``, for every adjoint that is taken through the trace.

        Raises:
            InputError: xs or state of other shapes.

        >>> from throughtime import cells
        >>> stack = Recurrence(cells.GRU(), 3, 5)
        >>> trace = stack.trace(torch.zeros(7, 4, 3))
        >>> adjoint = trace.backward(torch.ones_like(trace.hs), None)
        >>> stack.weight_hh_l0.grad.shape, trace.layers[0].at(6).jacobian().shape
        (torch.Size([15, 5]), torch.Size([4, 5, 5]))
        """
        _check.sequence_input(xs.shape, self.input_size)
        if state is not None:
            _check.state(state, [(self.num_layers, xs.shape[1], self.hidden_size)] * self.cell.states)
        begins = state is None or (fresh is not None and bool(fresh.any()))
        initial = self.initial_state(xs.shape[1]) if initial is None and begins else initial
        cells = [self.cell_of(l) for l in range(self.num_layers)]
        stack = Stack(cells, [self.stored_parameters_of(l) for l in range(self.num_layers)], self.dropout if self.training else 0.0)
        keep = self.memory if keep is None else keep
        return Trace(stack, xs, state, fresh, initial=initial, mask=mask, keep=keep, clip_adjoint=clip_adjoint)

    def extra_repr(self) -> str:
        return f"{self.cell}, {self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bias={self.bias}, dropout={self.dropout}"
