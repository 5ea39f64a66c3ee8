"""What is measured, in numbers alone: lags, the adjoint map, windows, Jacobians, gates."""

from ._results import (
    LEVELS as LEVELS,
    QUANTILES as QUANTILES,
    AdjointMap as AdjointMap,
    BiasCurve as BiasCurve,
    Gates as Gates,
    Jacobians as Jacobians,
    LagGradients as LagGradients,
    Measurement as Measurement,
    OwnBias as OwnBias,
    WindowBias as WindowBias,
    CLOSES as CLOSES,
)
from ._spectra import Spectra as Spectra
from ._asked import Asked as Asked, TrainedBy as TrainedBy
from ._problem import Problem as Problem
from ._measure import measure as measure
