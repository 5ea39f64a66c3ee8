"""How dL/dθ is found: one object a method, all behind ``accumulate(model, batch, carry)``."""

from ._base import AbstractGradient as AbstractGradient, Carry as Carry, Outcome as Outcome
from ._full import FullBPTT as FullBPTT
from ._truncated import TruncatedBPTT as TruncatedBPTT
