"""The recurrence through time: the plain loop, which defines it, and what stands between it and autograd."""

from ._recurrence import recurrence as recurrence
from ._types import Gradients as Gradients, Parameters as Parameters, Run as Run, Walk as Walk
