"""Gradient methods. Each is one object, and all have the same call: ``accumulate(model, batch, carry)``."""

from ._adaptive import AdaptiveBPTT as AdaptiveBPTT
from ._base import (
    AbstractGradient as AbstractGradient,
    Carry as Carry,
    Outcome as Outcome,
    carried_state as carried_state,
    starting_state as starting_state,
)
from ._history import History as History
from ._stations import run_with_steps as run_with_steps, stack_of as stack_of
from ._compare import Compared as Compared, compare as compare
from ._full import FullBPTT as FullBPTT
from ._random_truncated import RandomTruncatedBPTT as RandomTruncatedBPTT
from ._sliding import SlidingBPTT as SlidingBPTT
from ._truncated import TruncatedBPTT as TruncatedBPTT
from ._checkpointed import CheckpointedBPTT as CheckpointedBPTT
from .checkpointing._plan import Plan as Plan
from .checkpointing._schedules import AbstractSchedule as AbstractSchedule, Action as Action, Binomial as Binomial
from .checkpointing._budget import Budgeted as Budgeted
from .checkpointing._online import OnlineCheckpoints as OnlineCheckpoints
from ._rtrl import RTRL as RTRL
from ._block_rtrl import BlockRTRL as BlockRTRL
from ._snap import SnAp as SnAp
from ._uoro import UORO as UORO
from ._kfrtrl import KFRTRL as KFRTRL
from .forward._feedback import AbstractFeedback as AbstractFeedback, RandomFeedback as RandomFeedback, Symmetric as Symmetric
from ._rflo import RFLO as RFLO
from ._eprop import EProp as EProp
from ._omega import Omega as Omega, WithOmega as WithOmega, omega as omega
