"""Sparse n-step approximation of the influence matrix (Menick et al. 2021).

M keeps only the entries that a parameter can reach within n steps:

    S_1 = pat(I),   S_{m+1} = S_m or pat(J) S_m      (1)
    M̃_t = S_n ⊙ (J_t M̃_{t−1} + I_t)                (2)         dL/dθ ≈ Σ_t c_t M̃_t     (3)

The states of a unit belong together: for LSTM the 2×2 block of (h_i, c_i) is kept. In one layer of an elementwise cell S_1 is the unit
itself, and (2) is a trace per parameter,

    ε_t = D_t ε_{t−1} + ∂s_{j,t}/∂θ,    D_t = the unit's own block of J_t, ∂f/∂s + (∂f/∂rh) R_jj        (4)

as cheap as a step of backpropagation. With dense weights S_2 is everything, and SnAp-2 is RTRL. In a stack a parameter reaches all units
of the layers above within its own step: S_1 is then the unit and those layers. The patterns are found from the weights' zeros at the
start of each call.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .. import _check
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ..nn import LayerTrace
from ._base import AbstractGradient, Carry, Outcome
from ._stations import stack_of
from .forward._columns import Columns
from .forward._feedback import Symmetric
from .forward._influence import Influence
from .forward._local import accumulate_local
from .forward._run import ForwardRun, enter, run_forward


@final
@dataclass(frozen=True)
class SnAp(AbstractGradient):
    """RTRL without all but the nearest influences. ``SnAp(1)`` of one layer takes O(P) time and memory, P parameters.

    Higher orders, stacks and cells that mix their units store M̃ as a dense matrix with a mask, which follows the definition but costs as
    much as ``RTRL()``. For stacks the cheap rule is ``EProp()``; SnAp-1 differs from it by the unit's own recurrent weight. With order 1
    of one layer, an embedding enters through wx_v = W e_v + b (``_local``). If M̃ is dense, an embedding's entry reaches what its column
    of W reaches.

    Args:
        order: n. The bias decreases with the order, and is 0 once the pattern is full.

    Raises:
        InputError: an order below 1; this machine cannot hold M̃ where it is dense.
        NotImplementedError: dropout on an embedding with order 1.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> loss, carry = SnAp(1).accumulate(model, batch)
    >>> loss, carry = SnAp(1).accumulate(model, batch, carry)

    References: Menick et al., *A practical sparse approximation for real time recurrent learning*, 2021 (arXiv:2006.07232, §3).
    """

    order: int
    agrees = "approximately"

    def __post_init__(self) -> None:
        _check.positive("order", self.order, remedy="SnAp(1) is the cheapest.")

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        stack = stack_of(model, repr(self))
        if self.order == 1 and stack.num_layers == 1 and stack.cell.elementwise:
            return accumulate_local(repr(self), model, batch, carry, feedback=Symmetric(), passed_on=_own_block)
        entry = enter(model, batch, carry, repr(self))
        run = run_forward(model, batch, entry, repr(self))
        influence = Influence(model, run, entry, repr(self))
        loss, c = model.loss_and_adjoint(run.trace.hs, batch)
        with torch.no_grad():
            patterns = _patterns(run, influence.columns, self.order)
            g = c.new_zeros(influence.columns.count)
            for t in range(batch.T):
                influence.step(t)
                influence.keep_only(patterns)  # (2)
                g += influence.times(c[t])  # (3)
            influence.columns.add(model, run, g)
        return Outcome(loss, Carry(run.trace.last, influence.kept(), repr(self)))


def _own_block(layer: LayerTrace) -> Tensor:
    """D of (4) at all steps, (S, S, T·B, H)."""
    d = layer.derivative
    D = d.by_state.clone()
    D[:, 0] += torch.einsum("pgnj,gjj->pnj", d.by_rh, layer.weights.R)
    return D


def _patterns(run: ForwardRun, columns: Columns, order: int) -> list[Tensor]:
    """S_n (1) for each layer's M, (S·H, columns up to that layer)."""
    S, L, _, H = run.sizes
    reached = _reach(run, [torch.zeros(H, _places(run))] * L)  # S_1
    for _ in range(1, order):
        further = _reach(run, reached)  # S_m is in pat(J) S_m: a unit reaches itself
        if all(map(torch.equal, further, reached)):
            break
        reached = further
    origins = _origins(run, columns)
    return [s[:, origins[: columns.upto[l]]].repeat(S, 1) > 0 for l, s in enumerate(reached)]


def _places(run: ForwardRun) -> int:
    """The number of places where a parameter can act: an entry of the input (for an embedding), or a unit of a layer."""
    _, L, _, H = run.sizes
    return run.layers[0].weights.W.shape[2] + L * H


def _origins(run: ForwardRun, columns: Columns) -> Tensor:
    """(columns,) the place where each column's parameter acts."""
    H = run.trace.hs.shape[2]
    I = run.layers[0].weights.W.shape[2]
    found = torch.empty(columns.count, dtype=torch.long)
    found[columns.table].view(-1, I)[:] = torch.arange(I)
    for l, layer in enumerate(run.layers):
        units = I + l * H + torch.arange(H)
        for at, inputs in ((columns.wx[l], layer.W_inputs), (columns.rh[l], layer.R_inputs)):
            found[at].view(-1, H, inputs.shape[2])[:] = units.unsqueeze(1)
        found[columns.own[l]].view(-1, H)[:] = units
        found[columns.initial[l]].view(-1, H)[:] = units
    return found


def _reach(run: ForwardRun, before: list[Tensor]) -> list[Tensor]:
    """pat(J) S or pat(I), for S as (H, places) of each layer: 1 where a unit depends on what acts in a place."""
    reached: list[Tensor] = []
    I = run.layers[0].weights.W.shape[2]
    for l, layer in enumerate(run.layers):
        W, R = layer.weights.W, layer.weights.R
        H = R.shape[1]
        one = torch.eye(H, dtype=R.dtype, device=R.device)
        s = ((R != 0).any(0) + one) @ before[l].to(one)
        by_input = (W != 0).any(0).to(one)
        if l == 0:
            s[:, :I] += by_input
        else:
            s += by_input @ reached[-1]
        s[:, I + l * H : I + (l + 1) * H] += one
        if not layer.derivative.elementwise:
            s = torch.ones_like(one) @ s
        reached.append((s > 0).to(one))
    return reached
