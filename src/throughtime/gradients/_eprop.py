"""Eligibility propagation (Bellec et al. 2020).

Unit j has the state s_j, of which h_j is its output. Everything that it receives through the recurrent weights is held constant:

    ε_{ji,t} = (∂s_{j,t}/∂s_{j,t−1}) ε_{ji,t−1} + ∂s_{j,t}/∂W_{ji}      (1)
    dL/dW_ji ≈ Σ_t ℓ_{j,t} ε_{ji,t}[h]                                  (2)

The derivative in (1) is at fixed rh = R h + b. For LSTM it is f_t, from c to c and through c to h; for GRU the update gate z_t; for a
leaky unit 1 − α; for the simple network 0, so that each loss reaches its own step only. (The paper's e = (∂h/∂s) ε is the h-entry of ε
here, which runs over all S states of the unit.)
"""

from dataclasses import dataclass, field
from typing import final

from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome
from ._stations import stack_of
from .forward._feedback import AbstractFeedback, Symmetric
from .forward._local import accumulate_local


@final
@dataclass(frozen=True)
class EProp(AbstractGradient):
    """A local rule: it follows the memory inside each unit without limit, and leaves out all paths from unit to unit.

    It works with every elementwise cell. In a stack each layer has its own traces and its own learning signal, given by
    ``feedback``. It takes O(P) time and memory for every stream, P parameters, and is biased.

    Args:
        feedback: ``Symmetric()``, or ``RandomFeedback(seed)`` for the paper's random e-prop.

    Raises:
        NotImplementedError: a cell that mixes its units; dropout on an embedding.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> batch = tt.Batch(text[:-1], text[1:])
    >>> loss, carry = EProp().accumulate(model, batch)
    >>> loss, carry = EProp().accumulate(model, batch, carry)

    References: Bellec et al., *A solution to the learning dilemma for recurrent networks of spiking neurons*, 2020;
    arXiv:1901.09049 for LSTM.
    """

    feedback: AbstractFeedback = field(default_factory=Symmetric)
    agrees = "approximately"

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        cell = stack_of(model, repr(self)).cell
        if not cell.elementwise:
            raise NotImplementedError(
                f"{self} needs a cell whose unit j depends on unit j alone within a step; {cell} mixes its units, or does not say "
                "elementwise = True. RTRL(), UORO(seed), SnAp(order) and TruncatedBPTT(k1, k2) would do."
            )
        return accumulate_local(
            repr(self), model, batch, carry, feedback=self.feedback, passed_on=lambda layer: layer.derivative.by_state
        )  # (1), (2)
