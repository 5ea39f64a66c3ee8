"""Everything that one measurement of gradient flow holds. ``Flow`` is the same, and can be shown.

T time · B batch · L layers · H hidden · K lags.
"""

import abc
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Shaped
from torch import Tensor

from .measure import AdjointMap, BiasCurve, Gates, Jacobians, LagGradients
from .verdict import Verdict


@dataclass(frozen=True, eq=False)
class AbstractFlow(abc.ABC):
    """What the gradient of one batch does through time.

    Attributes:
        cell: the cell, as it writes itself.
        layers: L.
        hidden_size: H.
        T: steps of the batch.
        B: streams of the batch.
        max_lag: the greatest lag measured, K − 1.
        carried: whether a state was carried in; the gradient stops at it.
        loss: the batch's loss, as the model scales it, dropout off.
        losses: (T, B) each step's own m w ℓ; NaN where no loss counts.
        inputs: (T, B) the symbols that went in, where they are indices; None for vectors.
        targets: (T, B) the symbols that should come out, where they are indices; None for vectors.
        lags: the gradient by lag.
        adjoint: the map [t, k].
        bias: what each window would miss. None where the gradient by lag was not asked for.
        jacobians: None where not asked for.
        gates: None where not asked for.
        verdict: in words.
        guess: what the same losses would cost if every output were held equally likely, scaled as ``loss`` is; None where the head has no
            softmax with cross-entropy.
        precision: the type in which it was measured.
        again: why it was measured once more, in float64; empty where the first measurement was close enough.
    """

    cell: str
    layers: int
    hidden_size: int
    T: int
    B: int
    max_lag: int
    carried: bool
    loss: float
    losses: Float[Tensor, "T B"]
    inputs: Shaped[Tensor, "T B"] | None
    targets: Shaped[Tensor, "T B"] | None
    lags: LagGradients
    adjoint: AdjointMap
    bias: BiasCurve | None
    jacobians: Jacobians | None
    gates: Gates | None
    verdict: Verdict
    guess: float | None = None
    precision: Literal["float32", "float64"] = "float32"
    again: str = ""
