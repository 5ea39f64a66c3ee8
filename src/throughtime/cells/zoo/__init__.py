"""A gallery of cells from the literature, each one step of its equations and no more.

Nothing here is differentiated by hand. Where there is a C++ compiler, each runs as a kernel that is written from its ``step`` and compiled
at its first use; ``throughtime train --cell mgu`` takes them by name. They are examples too: a cell of your own
looks like this.
"""

from typing import Any

from ._diagonal import (
    ELSTM as ELSTM,
    SRU as SRU,
    IndRNN as IndRNN,
    MinGRU as MinGRU,
    MinLSTM as MinLSTM,
    UnICORNN as UnICORNN,
)
from ._gated import (
    MGU as MGU,
    NBRC as NBRC,
    STAR as STAR,
    UGRNN as UGRNN,
    CfC as CfC,
    CoupledLSTM as CoupledLSTM,
    PeepholeLSTM as PeepholeLSTM,
)
from ._rates import CTRNN as CTRNN, EINetwork as EINetwork
from ._two_stages import LEM as LEM, CoRNN as CoRNN, ResetBeforeGRU as ResetBeforeGRU

NAMES: dict[str, Any] = {
    "mgu": MGU, "ugrnn": UGRNN, "coupled-lstm": CoupledLSTM, "peephole-lstm": PeepholeLSTM, "ctrnn": CTRNN, "cfc": CfC, "star": STAR,
    "nbrc": NBRC, "gru-reset-before": ResetBeforeGRU, "ei": EINetwork, "indrnn": IndRNN, "mingru": MinGRU, "minlstm": MinLSTM, "sru": SRU,
    "elstm": ELSTM, "lem": LEM, "cornn": CoRNN, "unicornn": UnICORNN,
}  # fmt: skip
"""Every cell of the gallery by the name that ``throughtime train --cell`` takes."""
