"""Unbiased online recurrent optimisation (Tallec & Ollivier 2018).

M_t, n × P, is approximated by the product of one column and one row. It is unbiased over random signs ν_t ∈ {±1}ⁿ:

    M_t ≈ s̃_t θ̃_tᵀ                                                                      (1)
    s̃_t = ρ0 J_t s̃_{t−1} + ρ1 ν_t                                                       (2)
    θ̃_t = θ̃_{t−1} / ρ0 + I_tᵀ ν_t / ρ1                                                  (3)
    ρ0 = √(‖θ̃_{t−1}‖ / ‖J_t s̃_{t−1}‖),   ρ1 = √(‖I_tᵀ ν_t‖ / ‖ν_t‖)                      (4)     1 if either norm is 0
    dL/dθ ≈ Σ_t (c_t s̃_t) θ̃_tᵀ                                                           (5)

Since E[νᵢνⱼ] = δᵢⱼ and the cross terms change sign with ν, E[s̃_t θ̃_tᵀ] = J_t E[s̃_{t−1} θ̃_{t−1}ᵀ] + I_t. (4) balances the norms of the two
factors, which minimises the variance of each step. J_t is exact. All layers form one state, n = S·L·H. A learnable initial state is an
extra step with J = 0 and I = 1. Each stream has its own estimate.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ..nn import StepAdjoints
from ._base import AbstractGradient, Carry, Outcome
from .forward._columns import Columns
from .forward._run import Entry, ForwardRun, enter, learns_initial, restart, run_forward
from .forward._signs import Signs, balance


@final
@dataclass(frozen=True)
class UORO(AbstractGradient):
    """An unbiased estimate of RTRL's gradient with high variance, in O(P) time per step and O(P) memory for every stream.

    It is exact in expectation over the whole past. It works with any cell, number of layers, activation and dropout.

    Args:
        seed: the seed of the signs. The same seed and streams give the same estimates; the carry holds the generator's state.

    Raises:
        NotImplementedError: an input station other than an ``Embedding`` that has parameters.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> loss, carry = UORO(seed=0).accumulate(model, batch)
    >>> loss, carry = UORO(seed=0).accumulate(model, batch, carry)  # the signs go on where they were

    References: Tallec & Ollivier, *Unbiased online recurrent optimization*, 2018 (arXiv:1702.05043, algorithm 1). Its variance:
    Cooijmans & Martens, *On the variance of unbiased online recurrent optimization*, 2019.
    """

    seed: int = 0
    agrees = "in expectation"

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        entry = enter(model, batch, carry, repr(self))
        run = run_forward(model, batch, entry, repr(self))
        loss, c = model.loss_and_adjoint(run.trace.hs, batch)
        with torch.no_grad():
            product = _RankOne(model, run, entry, Signs(self.seed, entry.kept))
            g = c.new_zeros(product.columns.count)
            for t in range(batch.T):
                product.step(t)
                g += (c[t] * product.column[0, -1]).sum(1) @ product.row  # (5)
            product.columns.add(model, run, g)
        return Outcome(loss, Carry(run.trace.last, product.kept(), repr(self)))


class _RankOne:
    """(1): ``column`` s̃ (S, L, B, H) and ``row`` θ̃ (B, columns)."""

    def __init__(self, model: AbstractModel, run: ForwardRun, entry: Entry, signs: Signs) -> None:
        self.run, self.columns, self.signs = run, Columns(model, run), signs
        S, L, B, H = run.sizes
        if entry.kept:
            column, row = entry.kept["column"], self._grown(entry)
        else:
            column, row = run.trace.hs.new_zeros(B, S, L, H), run.trace.hs.new_zeros(B, self.columns.count)
        first, first_row = torch.zeros_like(column), torch.zeros_like(row)
        if learns_initial(model) and bool(entry.fresh.any()):
            first = signs.draw(B, S, L, H, like=column)  # (2), (3) with J = 0, I = 1
            for l in range(L):
                first_row[:, self.columns.initial[l]] = first[:, :, l].flatten(1)
        self.column = restart(column, entry.fresh, first).movedim(0, 2)
        self.row = restart(row, entry.fresh, first_row).clone()  # changed in place below

    def step(self, t: int) -> None:
        """Advance from t − 1 to t."""
        S, L, B, H = self.run.sizes
        nu = self.signs.draw(S, L, B, H, like=self.row)
        step = self.run.trace.at(t)
        pushed = torch.stack(step.push(self.column.unbind(1)), 1)  # J_t s̃_{t−1}
        own = step.pull(nu.unbind(1))  # I_tᵀ ν_t is the outer product of these with the step's inputs
        rho_0 = balance(self.row.norm(dim=1), _norm(pushed))  # (4)
        rho_1 = balance(self._own_norm(t, own), _norm(nu))  # (4)
        self.column = rho_0.unsqueeze(1) * pushed + rho_1.unsqueeze(1) * nu  # (2)
        self.row /= rho_0.unsqueeze(1)  # (3)
        self._add_own(t, own, 1 / rho_1)  # (3)

    def kept(self) -> dict[str, Tensor]:
        """The tensors for the carry."""
        rows = {} if self.run.table is None else {"rows": self.run.table.rows}
        return rows | {"column": self.column.movedim(2, 0).contiguous(), "row": self.row} | self.signs.kept()

    def _own_norm(self, t: int, own: list[StepAdjoints]) -> Tensor:
        """‖I_tᵀ ν_t‖ (B,): the norm of an outer product is the product of the norms."""
        squares = torch.zeros_like(self.row[:, 0])
        for layer, p in zip(self.run.layers, own, strict=True):
            for at, x in ((p.wx, layer.W_inputs[t]), (p.rh, layer.R_inputs[t]), (p.own, torch.ones_like(layer.W_inputs[t, :, :1]))):
                squares += at.square().sum((0, 2)) * x.square().sum(1)
        if self.run.table is not None:
            squares += own[0].below.square().sum(1) * self.run.table.share(slice(t, t + 1))[0].square().sum(1)
        return squares.sqrt()

    def _add_own(self, t: int, own: list[StepAdjoints], scale: Tensor) -> None:
        """θ̃ += scale · I_tᵀ ν_t, for ``scale`` (B,)."""
        table, columns = self.run.table, self.columns
        if table is not None:
            _add_outer(self.row[:, columns.table], table.share(slice(t, t + 1))[0] * scale.unsqueeze(1), own[0].below)
        for l, (layer, p) in enumerate(zip(self.run.layers, own, strict=True)):
            places = (
                (columns.wx[l], p.wx, layer.W_inputs[t]),
                (columns.rh[l], p.rh, layer.R_inputs[t]),
                (columns.own[l], p.own, torch.ones_like(layer.W_inputs[t, :, :1])),
            )
            for at, adjoint, x in places:
                _add_outer(self.row[:, at], (adjoint * scale.unsqueeze(1)).transpose(0, 1).flatten(1), x)

    def _grown(self, entry: Entry) -> Tensor:
        """The carried θ̃, with zeros for rows of the embedding that are new in this call."""
        row, table = entry.kept["row"], self.run.table
        if table is None:
            return row
        return table.grown_columns(row, entry.kept["rows"])


def _norm(tangent: Tensor) -> Tensor:
    """(B,) of (S, L, B, H)."""
    return tangent.square().sum((0, 1, 3)).sqrt()


def _add_outer(target: Tensor, a: Tensor, x: Tensor) -> None:
    """target (B, A·X) += a ⊗ x, for a (B, A) and x (B, X)."""
    target.unflatten(1, (a.shape[1], x.shape[1])).baddbmm_(a.unsqueeze(2), x.unsqueeze(1))
