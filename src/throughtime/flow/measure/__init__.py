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
)
from ._jacobians import Spectra as Spectra
from ._problem import Asked as Asked, Problem as Problem
from ._measure import measure as measure
