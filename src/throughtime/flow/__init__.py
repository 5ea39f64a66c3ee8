"""What the gradient does through time: by lag, by step, in words."""

from .measure import (
    AdjointMap as AdjointMap,
    BiasCurve as BiasCurve,
    Gates as Gates,
    Jacobians as Jacobians,
    LagGradients as LagGradients,
    OwnBias as OwnBias,
    Spectra as Spectra,
    TrainedBy as TrainedBy,
    WindowBias as WindowBias,
)
from .verdict import Advice as Advice, Verdict as Verdict
from ._flow import Flow as Flow
from ._gradient_flow import gradient_flow as gradient_flow
