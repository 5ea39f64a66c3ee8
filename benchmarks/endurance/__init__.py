"""What a run must survive: ``kills`` of its process, ``spoilt`` files, ``rank_kills`` under torchrun, and hours (``soak``)."""

from ._kills import kills
from ._rank_kills import rank_kills
from ._runs import RUNS, Data, Run, differing
from ._soak import soak
from ._spoilt import spoilt

__all__ = ["RUNS", "Data", "Run", "differing", "kills", "rank_kills", "soak", "spoilt"]
