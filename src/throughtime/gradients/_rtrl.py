"""Real-time recurrent learning (Williams & Zipser 1989).

    M_t = J_t M_{t−1} + I_t         (1)         dL/dθ = Σ_t c_t M_t,  c_t = ∂L_t/∂h_t       (2)

The method never goes back in time. M contains the whole past and is carried from call to call.
"""

from dataclasses import dataclass
from typing import final

import torch

from .._shapes import State
from ..data import Batch
from ..models import AbstractModel, Embedding
from ._base import AbstractGradient, Carry, Outcome
from ._stations import stack_of
from .forward._feedback import Symmetric
from .forward._influence import Influence
from .forward._local import accumulate_local
from .forward._run import enter, run_forward


@final
@dataclass(frozen=True)
class RTRL(AbstractGradient):
    """The exact gradient, found forward in time.

    With fixed parameters it is BPTT over the whole past of every stream, independent of how the stream is cut into calls.
    With parameters that change between calls, M is a sum of terms, each at the parameters of its own call.

    It takes O(n²P) time per step and O(nP) memory for every stream, with n = S·L·H states and P = O(n²) parameters. Use it for small
    networks. For larger ones use ``BlockRTRL``, which is exact too and O(n) times faster, or the approximations.

    A cell without R (``recurrent_gates = 0``) has units that do not see one another. In one layer of it M has entries for a unit's own
    parameters only, and RTRL is as cheap as a step of backpropagation: O(P) time and memory for every stream (Irie et al. 2024, §3).

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

    References: Williams & Zipser, *A learning algorithm for continually running fully recurrent neural networks*, 1989. Irie,
    Gopalakrishnan & Schmidhuber, *Exploring the promise and limits of real-time recurrent learning*, 2024 (arXiv:2305.19044).
    """

    agrees = "exactly"

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        if _stays_in_its_unit(model, repr(self)):
            return accumulate_local(
                repr(self), model, batch, carry, feedback=Symmetric(), passed_on=lambda layer: layer.derivative.by_state
            )
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


def _stays_in_its_unit(model: AbstractModel, method: str) -> bool:
    """Whether no parameter reaches another unit than its own, neither through R nor through a layer above."""
    stack = stack_of(model, method)
    table_changes = isinstance(model.input, Embedding) and model.training and model.input_dropout.p > 0  # see forward._columns.unit_inputs
    return stack.num_layers == 1 and stack.cell.elementwise and stack.cell.rh_gates == 0 and not table_changes
