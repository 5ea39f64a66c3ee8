"""The order of the columns of the influence matrix: the place of each parameter's entries.

B batch · I input · H hidden · G gates · S states · L layers · r rows of the embedding that have occurred.

    [ E (r, I) | W⁰ b_ih⁰ (G, H, I+1) · R⁰ b_hh⁰ (G, H, H+1) · v⁰ (V, H) · s_0⁰ (S, H) | W¹ b_ih¹ · R¹ b_hh¹ · v¹ · s_0¹ | … ]

Layer l depends on no column after its own, so that its columns are a prefix. Without biases, I + 1 is I and H + 1 is H. The columns
s_0 exist if the initial state is a parameter, and v are the learned vectors of the cell's own, if it has any.
"""

from typing import final

import torch
from torch import Tensor, nn

from ...cells import AbstractCell
from ...kernels import learned_vectors
from ...models import AbstractModel
from ._run import ForwardRun


@final
class Columns:
    """The slices of one model; ``upto[l]`` is the length of layer l's prefix."""

    def __init__(self, model: AbstractModel, run: ForwardRun) -> None:
        S, _, _, H = run.sizes
        self.count = 0
        self.table = self._take(0 if run.table is None else len(run.table.rows) * model.recurrence.input_size)
        self.wx, self.rh, self.own, self.initial, self.upto = [], [], [], [], []
        for layer in run.layers:
            self.wx.append(self._take(layer.cell.gates * H * layer.W_inputs.shape[2]))
            self.rh.append(self._take(layer.cell.rh_gates * H * layer.R_inputs.shape[2]))
            self.own.append(self._take(len(learned_vectors(layer.cell)) * H))
            self.initial.append(self._take(S * H if model.recurrence.initial_rule.learnable else 0))
            self.upto.append(self.count)

    def _take(self, n: int) -> slice:
        self.count += n
        return slice(self.count - n, self.count)

    def add(self, model: AbstractModel, run: ForwardRun, g: Tensor) -> None:
        """Add the gradient ``g`` (columns,) to the parameters' own."""
        table = run.table
        if table is not None:
            add_rows(table.weight, table.rows, g[self.table].view(len(table.rows), -1))
        for l, layer in enumerate(run.layers):
            wx, rh = (g[at].view(-1, x.shape[2]) for at, x in ((self.wx[l], layer.W_inputs), (self.rh[l], layer.R_inputs)))
            add_layer(model, l, wx, rh)
            add_own(layer.cell, g[self.own[l]].view(-1, run.sizes[3]))
            if model.recurrence.initial_rule.learnable:
                add_initial(model, l, g[self.initial[l]].view(-1, wx.shape[0] // layer.cell.gates))


def add_layer(model: AbstractModel, l: int, wx: Tensor, rh: Tensor) -> None:
    """Add the gradients (G·H, I + 1) of (W, b_ih) and (G·H, H + 1) of (R, b_hh)."""
    W, R, b_ih, b_hh = model.recurrence.stored_parameters_of(l)
    for weight, bias, g in ((W, b_ih, wx), (R, b_hh, rh)):
        _add(weight, g[:, : weight.shape[1]])
        if bias is not None:
            _add(bias, g[:, -1])


def add_own(cell: AbstractCell, g: Tensor) -> None:
    """Add the gradients (V, H) of a cell's own learned vectors."""
    for vector, one in zip(learned_vectors(cell), g, strict=True):
        _add(vector, one.sum_to_size(vector.shape))


def unit_inputs(run: ForwardRun, l: int, method: str) -> Tensor:
    """The inputs of layer l's parameters that reach one unit each, (T, B, I + 1 + r): x̂, and in layer 0 the embedding's row, one-hot.

    wx = W e_v + b is a row of a table wx_v. Each entry of this table reaches one unit only, as the entries of W and b do.

    Raises:
        NotImplementedError: dropout on the embedding, after which wx_v is another table at every step.
    """
    layer, table = run.layers[l], run.table
    if l > 0 or table is None:
        return layer.W_inputs
    if layer.mask is not None:
        raise NotImplementedError(
            f"{method} follows an embedding through wx_v = W e_v + b, which dropout on the embedding makes another table at every step. "
            "Set the model's input_dropout to 0 (other dropout may stay), or use RTRL(), UORO(seed) or TruncatedBPTT(k1, k2)."
        )
    return torch.cat((layer.W_inputs, table.share(slice(None))), 2)


def add_unit_gradients(model: AbstractModel, run: ForwardRun, l: int, wx: Tensor, rh: Tensor) -> None:
    """As ``add_layer``; layer 0's ``wx`` ends in the columns (G·H, r) of wx_v = W e_v + b, and ∂L/∂e_v = Wᵀ ∂L/∂wx_v."""
    layer, table = run.layers[l], run.table
    own = layer.W_inputs.shape[2]
    add_layer(model, l, wx[:, :own], rh)
    if l == 0 and table is not None:
        add_rows(table.weight, table.rows, wx[:, own:].T @ layer.weights.W.flatten(0, 1))


def add_initial(model: AbstractModel, l: int, g: Tensor) -> None:
    """Add the gradient (S, H) of a layer's initial state."""
    initial = model.recurrence.get_parameter("initial")
    whole = torch.zeros_like(initial)
    whole[:, l] = g
    _add(initial, whole)


def add_rows(weight: nn.Parameter, rows: Tensor, g: Tensor) -> None:
    """Add the gradient (r, I) of some rows of an embedding."""
    _add(weight, torch.zeros_like(weight).index_copy(0, rows, g))


def _add(p: Tensor, g: Tensor) -> None:
    if not p.is_leaf:  # a function of parameters
        p.backward(g)
    elif p.requires_grad:
        p.grad = g.clone() if p.grad is None else p.grad.add_(g)
