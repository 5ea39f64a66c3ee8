"""What the gradient does through time: by lag, by step, in words."""

from ._flow import (
    AdjointMap as AdjointMap,
    Advice as Advice,
    BiasCurve as BiasCurve,
    Flow as Flow,
    Gates as Gates,
    Jacobians as Jacobians,
    LagGradients as LagGradients,
    Verdict as Verdict,
)
from ._jacobians import Spectra as Spectra
from ._measure import gradient_flow as gradient_flow
