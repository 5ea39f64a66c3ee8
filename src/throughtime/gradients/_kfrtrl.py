"""Kronecker-factored RTRL (Mujika, Meier & Steger 2018).

In one layer the immediate influence of the weights is a Kronecker product: with Θ (G·H, X) and its input û (X,),

    I_t = û_tᵀ ⊗ D_t,   D_t = ∂s_t/∂(Θ û) (n, G·H)                                          (1)

M is approximated by one Kronecker product too. It is unbiased over random signs σ, σ′ ∈ {±1}:

    M_t ≈ u_tᵀ ⊗ A_t                                                                        (2)
    u_t = σ p1 u_{t−1} + σ′ p2 û_t                                                          (3)
    A_t = σ J_t A_{t−1} / p1 + σ′ D_t / p2                                                  (4)
    p1 = √(‖J_t A_{t−1}‖ / ‖u_{t−1}‖),   p2 = √(‖D_t‖ / ‖û_t‖)                              (5)     1 if either norm is 0
    dL/dΘ ≈ Σ_t (c_t A_t)ᵀ u_tᵀ                                                             (6)

If the cell adds W x and R h first (simple network, leaky, LSTM), they are one Θ with û = (x̂; ĥ). Otherwise (GRU, whose reset gate
multiplies R h) each has its own product and its own signs. An embedding enters through wx_v = W e_v + b, whose û is the one-hot vector of
v in addition to x̂. The influence of a learnable initial state, J_t … J_1, is kept exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .._shapes import State
from ..data import Batch
from ..kernels import learned_vectors
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome
from ._stations import stack_of
from .forward._columns import add_initial, add_unit_gradients, unit_inputs
from .forward._run import Entry, ForwardRun, enter, learns_initial, restart, run_forward
from .forward._signs import Signs, balance


@final
@dataclass(frozen=True)
class KFRTRL(AbstractGradient):
    """An unbiased estimate of RTRL's gradient, in O(n³) time per step and O(n²) memory for every stream of n states.

    Its variance is lower than that of ``UORO``. It is exact in expectation over the whole past. It works with one layer of any cell.

    Args:
        seed: the seed of the signs. The same seed and streams give the same estimates; the carry holds the generator's state.

    Raises:
        NotImplementedError: several layers, whose I_t is no Kronecker product; dropout on an embedding.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> loss, carry = KFRTRL(seed=0).accumulate(model, batch)
    >>> loss, carry = KFRTRL(seed=0).accumulate(model, batch, carry)

    References: Mujika, Meier & Steger, *Approximating real-time recurrent learning with random Kronecker factors*, 2018 (arXiv:1805.10842).
    """

    seed: int = 0
    agrees = "in expectation"

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        stack = stack_of(model, repr(self))
        layers, cell = stack.num_layers, stack.cell
        if learned_vectors(cell) or cell.rh_gates != cell.gates:
            raise NotImplementedError(
                f"{self} factors the influence of W and R, one block of each for every gate; {type(cell).__name__} has learned vectors of "
                "its own, or no R for some gate. UORO(seed) is as unbiased, RTRL() and BlockRTRL(block) are exact."
            )
        if layers > 1:
            raise NotImplementedError(
                f"{self} needs an immediate influence that is a Kronecker product, which that of {layers} stacked layers is "
                "not: a lower layer's weights act through the upper ones. UORO(seed) is as unbiased, RTRL() and BlockRTRL(block) are "
                "exact; or take one layer."
            )
        entry = enter(model, batch, carry, repr(self))
        run = run_forward(model, batch, entry, repr(self))
        factors_of_M = _Factors(model, run, entry, Signs(self.seed, entry.kept), repr(self))
        loss, c = model.loss_and_adjoint(run.trace.hs, batch)
        with torch.no_grad():
            for t in range(batch.T):
                factors_of_M.step(t)
                factors_of_M.add_loss(c[t])
            factors_of_M.add(model)
        return Outcome(loss, Carry(run.trace.last, factors_of_M.kept(), repr(self)))


class _Factors:
    """(2) for one layer: factors ``u`` (B, X) and ``A`` (B, n, G·H), one pair of them or two, and the initial state's influence."""

    def __init__(self, model: AbstractModel, run: ForwardRun, entry: Entry, signs: Signs, method: str) -> None:
        self.run, self.layer, self.signs = run, run.layers[0], signs
        self.adds = model.recurrence.cell.adds_halves
        self.learnable = learns_initial(model)
        wx, rh = unit_inputs(run, 0, method), self.layer.R_inputs
        self.ends = rh.shape[2]  # where ĥ ends; it comes first because x̂ may grow with the table
        d = self.layer.derivative
        self.inputs = [torch.cat((rh, wx), 2)] if self.adds else [rh, wx]  # û of each pair, (T, B, X)
        self.by = [d.by_rh] if self.adds else [d.by_rh, d.by_wx]
        S, _, B, H = run.sizes
        self.G = self.layer.cell.gates
        self._begin(entry, B, S * H)
        self.gradients = [x.new_zeros(self.G * H, x.shape[2]) for x in self.inputs]
        self.initial_gradient = run.trace.hs.new_zeros(S, H)

    def step(self, t: int) -> None:
        """Advance from t − 1 to t."""
        J, B = self.layer.at(t).jacobian(), self.run.trace.B
        signs = self.signs.draw(len(self.inputs), 2, B, like=J)
        for k, (x, by) in enumerate(zip(self.inputs, self.by, strict=True)):
            D = _dense(by.narrow(2, t * B, B), elementwise=self.layer.derivative.elementwise)
            self.u[k], self.A[k] = _combine(self.u[k], J @ self.A[k], x[t], D, *signs[k])
        self.initial = J @ self.initial  # without columns unless the initial state is a parameter

    def add_loss(self, c: Tensor) -> None:
        """(6) at one step, for c (B, H)."""
        H = c.shape[1]
        for g, u, A in zip(self.gradients, self.u, self.A, strict=True):
            g += torch.bmm(c.unsqueeze(1), A[:, :H])[:, 0].T @ u
        if self.learnable:
            self.initial_gradient += torch.bmm(c.unsqueeze(1), self.initial[:, :H]).sum(0).view_as(self.initial_gradient)

    def add(self, model: AbstractModel) -> None:
        """Add the sums (6) to the parameters' gradients."""
        whole = torch.cat(self.gradients, 1)
        add_unit_gradients(model, self.run, 0, whole[:, self.ends :], whole[:, : self.ends])
        if self.learnable:
            add_initial(model, 0, self.initial_gradient)

    def kept(self) -> dict[str, Tensor]:
        """The tensors for the carry."""
        rows = {} if self.run.table is None else {"rows": self.run.table.rows}
        factors = {f"u.{k}": u for k, u in enumerate(self.u)} | {f"A.{k}": A for k, A in enumerate(self.A)}
        return rows | factors | {"initial": self.initial} | self.signs.kept()

    def _begin(self, entry: Entry, B: int, n: int) -> None:
        like = self.run.trace.hs
        if entry.kept:
            self.u = self._grown([entry.kept[f"u.{k}"] for k in range(len(self.inputs))], entry)
            self.A = [entry.kept[f"A.{k}"] for k in range(len(self.inputs))]
            self.initial = entry.kept["initial"]
        else:
            self.u = [like.new_zeros(B, x.shape[2]) for x in self.inputs]
            self.A = [like.new_zeros(B, n, self.G * like.shape[2]) for _ in self.inputs]
            self.initial = like.new_zeros(B, n, n if self.learnable else 0)
        self.u, self.A = ([restart(f, entry.fresh) for f in factors] for factors in (self.u, self.A))
        self.initial = restart(self.initial, entry.fresh, torch.eye(n, dtype=like.dtype, device=like.device)[:, : self.initial.shape[2]])

    def _grown(self, u: Sequence[Tensor], entry: Entry) -> list[Tensor]:
        """The carried u, with zeros for rows of the embedding that are new in this call."""
        *others, last = u
        table = self.run.table
        if table is None:
            return [*u]
        of_table = last.shape[1] - len(entry.kept["rows"])
        return [*others, torch.cat((last[:, :of_table], table.grown(last[:, of_table:], entry.kept["rows"], 1)), 1)]


def _combine(u: Tensor, JA: Tensor, x: Tensor, D: Tensor, sign: Tensor, sign_own: Tensor) -> tuple[Tensor, Tensor]:
    """(3), (4), for factors (B, X) and (B, n, G·H) and signs (B,)."""
    p1 = balance(JA.norm(dim=(1, 2)), u.norm(dim=1))  # (5)
    p2 = balance(D.norm(dim=(1, 2)), x.norm(dim=1))  # (5)
    u = (sign * p1).unsqueeze(1) * u + (sign_own * p2).unsqueeze(1) * x  # (3)
    return u, (sign / p1).view(-1, 1, 1) * JA + (sign_own / p2).view(-1, 1, 1) * D  # (4)


def _dense(by: Tensor, *, elementwise: bool) -> Tensor:
    """D (B, S·H, G·H) from ∂s/∂a, (S, G, B, H) or (S, G, B, H, H)."""
    blocks = torch.diag_embed(by) if elementwise else by
    return blocks.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
