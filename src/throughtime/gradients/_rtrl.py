"""Real-time recurrent learning (Williams & Zipser 1989).

    M_t = J_t M_{t−1} + I_t         (1)         dL/dθ = Σ_t c_t M_t,  c_t = ∂L_t/∂h_t       (2)

Nothing ever goes back in time, and nothing of the past is forgotten: M is carried from call to call.
"""

from dataclasses import dataclass
from typing import final

import torch

from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome
from .forward._influence import Influence
from .forward._run import enter, run_forward


@final
@dataclass(frozen=True)
class RTRL(AbstractGradient):
    """The exact gradient, forward in time: with fixed parameters, BPTT over the whole past of every stream, however it is cut into calls.

    With parameters that change between calls, M is a sum of terms each taken at the parameters of its own time.

    Several layers are one stacked state, whose Jacobian is block lower triangular within the step (``_influence``). An embedding's rows
    take part once they have occurred. Any cell, any activation, dropout (its mask is part of the step). A bare state as carry, or another
    method's, is a constant: nothing is known of what it came from.

    O(n²P) time a step and O(nP) memory, for every stream; n = S·L·H states, P = O(n²) parameters. For small networks; else
    ``BlockRTRL``, as exact and O(n) times faster, or the approximations.

    Raises:
        InputError: this machine cannot hold M.
        NotImplementedError: an input station other than an ``Embedding`` that has parameters.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8, reduction="sum"), torch.randint(9, (13, 4))
    >>> batch, carry = tt.Batch(text[:-1], text[1:]), None
    >>> for t in range(12):  # one step a call: the sum of the calls is the gradient of the whole
    ...     loss, carry = RTRL().accumulate(model, batch.steps(t, t + 1), carry)
    >>> found = model.recurrence.weight_hh_l0.grad.clone()
    >>> model.zero_grad()
    >>> loss, _ = tt.gradients.FullBPTT().accumulate(model, batch)
    >>> torch.allclose(found, model.recurrence.weight_hh_l0.grad, atol=1e-5)
    True

    References: Williams & Zipser, *A learning algorithm for continually running fully recurrent neural networks*, 1989.
    """

    agrees = "exactly"

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        entry = enter(model, batch, carry, repr(self))
        run = run_forward(model, batch, entry, repr(self))
        influence = Influence(model, run, entry, repr(self))
        loss, c = model.loss_and_adjoint(run.trace.hs, batch)
        with torch.no_grad():
            g = c.new_zeros(influence.columns.count)
            for t in range(batch.T):
                influence.step(t)  # (1)
                g += influence.times(c[t])  # (2)
            influence.columns.add(model, run, g)
        return Outcome(loss, Carry(run.trace.last, influence.kept(), repr(self)))
