"""Random feedback local online learning (Murray 2019).

For h_t = (1 − α) h_{t−1} + α φ(a_t), a_t = R h_{t−1} + W x_t + b, the Jacobian is taken without its paths through R:

    E_t = (1 − α) E_{t−1} + α φ′(a_t) ĥ_tᵀ,  ĥ = (h_{t−1}; x_t; 1)      (1)
    dL/dR_ij ≈ Σ_t ℓ_{i,t} E_{t,ij},   ℓ_t = δ_t B                      (2)

with δ_t the error at the output and B fixed and random.
"""

from dataclasses import dataclass, field
from typing import final

from .._shapes import State
from ..cells import Elman, Leaky
from ..data import Batch
from ..models import AbstractModel
from ._base import AbstractGradient, Carry, Outcome
from ._stations import stack_of
from .forward._feedback import AbstractFeedback, RandomFeedback
from .forward._local import accumulate_local


@final
@dataclass(frozen=True)
class RFLO(AbstractGradient):
    """A local rule for leaky networks: each trace decays with its unit's own leak.

    It is the recursion of ``EProp`` on a leaky unit, with random feedback. For the simple network (α = 1) no lag is left, so that apart
    from the feedback it is ``TruncatedBPTT(1)``. It takes O(P) time and memory for every stream, P parameters, and is biased.

    Args:
        feedback: ``RandomFeedback(seed)``, or ``Symmetric()`` for ℓ_t = ∂L_t/∂h_t. In a stack, as in ``EProp``.

    Raises:
        NotImplementedError: a cell other than ``Leaky`` or ``Elman`` with an elementwise activation; dropout on an embedding.

    >>> import torch
    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, cell=tt.cells.Leaky(0.2), hidden_size=8), torch.randint(9, (13, 4))
    >>> loss, carry = RFLO().accumulate(model, tt.Batch(text[:-1], text[1:]))

    References: Murray, *Local online learning in recurrent networks with random feedback*, 2019.
    """

    feedback: AbstractFeedback = field(default_factory=RandomFeedback)
    agrees = "approximately"

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        cell = stack_of(model, repr(self)).cell
        if not isinstance(cell, Leaky | Elman) or not cell.elementwise:
            raise NotImplementedError(
                f"{self} is defined for leaky units, h' = (1 − α) h + α φ(a) with φ elementwise; got {cell}. EProp(feedback=...) is the "
                "same idea for any cell that works unit by unit; RTRL() and UORO(seed) take every cell."
            )
        return accumulate_local(
            repr(self), model, batch, carry, feedback=self.feedback, passed_on=lambda layer: layer.derivative.by_state
        )  # (1): a leaky unit's own derivative is 1 − α; (2)
