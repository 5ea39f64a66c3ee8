"""A layer as something that takes one step after another: by the packed kernels where they serve it, else by calling it.

B streams · I input · H hidden · P output: H, or the projection's size · S states · L layers.
"""

import copy
from typing import Any, final

import torch
from torch import Tensor, nn

from .._shapes import State
from ..cells import GRU, LSTM, AbstractCell
from ..kernels import PackedSteps, can_step
from ._bidirectional import Bidirectional
from ._border import kind_of
from ._cells import elman
from ._layer_base import Layers
from ._stack import Recurrence

Stepped = Recurrence | nn.RNNBase  # this package's layers are instances of torch's


@final
class CalledSteps:
    """A copy of a layer in evaluation mode, called with one step at a time, and its state.

    It serves every layer: any cell, option, type and device.

    >>> from throughtime.nn import LSTM as Layer
    >>> steps = CalledSteps(Layer(2, 5, proj_size=3), 4)
    >>> steps.step(torch.zeros(4, 2)).shape, [s.shape for s in steps.state()]
    (torch.Size([4, 3]), [torch.Size([1, 4, 3]), torch.Size([1, 4, 5])])
    """

    def __init__(self, layer: Stepped, streams: int) -> None:
        self._layer: Any = copy.deepcopy(layer).eval().requires_grad_(False)
        if isinstance(layer, nn.RNNBase):
            self._layer.batch_first = False
        if isinstance(layer, Layers):
            self._layer.state_batch_first = False
        self._state = first_state(layer, streams)

    def step(self, x: Tensor) -> Tensor:
        """The last layer's h (B, P) after x (B, I)."""
        one = isinstance(self._layer, nn.RNNBase) and len(self._state) == 1
        with torch.no_grad():
            hs, last = self._layer(x.unsqueeze(0), self._state[0] if one else self._state)
        self._state = (last,) if one else last
        return hs[0]

    def state(self) -> State:
        """A copy of the state, S tensors (L, B, ·)."""
        return tuple(s.clone() for s in self._state)

    def set_state(self, state: State) -> None:
        """Go on from ``state``, S tensors (L, B, ·)."""
        self._state = tuple(s.detach().clone() for s in state)


Steps = PackedSteps | CalledSteps


def steps_of(layer: Stepped | Bidirectional, streams: int) -> Steps:
    """The layer's steps from its initial state, with the weights that it has now.

    Raises:
        NotImplementedError: a bidirectional layer.

    >>> type(steps_of(nn.GRU(2, 5), 4)).__name__
    'PackedSteps'
    """
    if isinstance(layer, Bidirectional) or (isinstance(layer, nn.RNNBase) and layer.bidirectional):
        name = "model" if isinstance(layer, Bidirectional) else kind_of(layer)
        raise NotImplementedError(
            f"the {name} is bidirectional: its first output depends on the last input, and a stream has no last input. "
            "Use one with bidirectional=False."
        )
    cell = _cell_of(layer)
    if cell is None or not can_step(cell, layer.weight_hh_l0):  # type: ignore[arg-type]
        return CalledSteps(layer, streams)
    steps = PackedSteps(cell, _weights_of(layer), streams)
    steps.set_state(first_state(layer, streams))
    return steps


def first_state(layer: Stepped, streams: int) -> State:
    """The state before the first step, S tensors (L, B, ·)."""
    if isinstance(layer, Recurrence):
        return tuple(s.detach() for s in layer.initial_state(streams))
    like: Any = layer.weight_hh_l0
    sizes = [layer.proj_size or layer.hidden_size, *([layer.hidden_size] if isinstance(layer, nn.LSTM) else [])]
    if isinstance(layer, Layers) and layer.learn_h0:
        return tuple(getattr(layer, f"{name}_0").detach().expand(-1, streams, -1).contiguous() for name in layer.state_sizes())
    return tuple(like.new_zeros(layer.num_layers, streams, size) for size in sizes)


def _cell_of(layer: Stepped) -> AbstractCell | None:
    """The cell of every layer, without which an evaluation of the layer has nothing; None if it has an option besides."""
    if isinstance(layer, Recurrence):
        return layer.cell
    if layer.proj_size or (isinstance(layer, Layers) and (layer.layer_norm or layer.zoneout)):
        return None
    if isinstance(layer, nn.RNN):
        return elman(layer.nonlinearity)
    return LSTM() if isinstance(layer, nn.LSTM) else GRU()


def _weights_of(layer: Stepped) -> tuple[Tensor | None, ...]:
    """W, R, b_ih, b_hh of every layer, or what a reparametrisation computes in their place."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    names = [(kind, f"{kind}_l{k}") for k in range(layer.num_layers) for kind in kinds]
    return tuple(getattr(layer, name) if layer.bias or kind.startswith("weight") else None for kind, name in names)
