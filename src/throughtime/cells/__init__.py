"""One step of mathematics: the forward equations of a cell and the same equations differentiated by hand."""

import warnings
from typing import Any

from ._activations import (
    AbstractActivation as AbstractActivation,
    Identity as Identity,
    FromCallable as FromCallable,
    Relu as Relu,
    Sigmoid as Sigmoid,
    Tanh as Tanh,
)
from ._derivative import StepDerivative as StepDerivative
from ._pullback import AbstractPullback as AbstractPullback
from ._base import AbstractCell as AbstractCell, Gate as Gate, derivative as derivative
from ._constraints import Dale as Dale, Masked as Masked
from ._elman import Elman as Elman
from ._gru import GRU as GRU
from ._leaky import Leaky as Leaky
from ._lstm import LSTM as LSTM
from . import zoo as zoo


def __getattr__(name: str) -> Any:
    """Names of earlier releases."""
    if name == "OfCallable":
        warnings.warn("throughtime.cells.OfCallable is now called FromCallable.", DeprecationWarning, stacklevel=2)
        return FromCallable
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
