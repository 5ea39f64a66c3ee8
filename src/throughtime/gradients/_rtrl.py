"""Real-time recurrent learning (Williams & Zipser 1989).

    M_t = J_t M_{t−1} + I_t         (1)         dL/dθ = Σ_t c_t M_t,  c_t = ∂L_t/∂h_t       (2)

The method never goes back in time. M contains the whole past and is carried from call to call.
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
    """The exact gradient, found forward in time.

    With fixed parameters it is BPTT over the whole past of every stream, independent of how the stream is cut into calls.
    With parameters that change between calls, M is a sum of terms, each at the parameters of its own call.

    It takes O(n²P) time per step and O(nP) memory for every stream, with n = S·L·H states and P = O(n²) parameters. Use it for small
    networks. For larger ones use ``BlockRTRL``, which is exact too and O(n) times faster, or the approximations.

    It works with any cell, activation and number of layers, and with dropout, whose mask is part of the step. Several layers are one
    stacked state, whose Jacobian is block lower triangular within the step (``_influence``). An embedding's rows take part once they have
    occurred. A bare state as carry, or another method's carry, is a constant.

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
