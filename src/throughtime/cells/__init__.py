"""One step of mathematics: the forward equations of a cell and the same equations differentiated by hand."""

from ._activations import (
    AbstractActivation as AbstractActivation,
    Identity as Identity,
    OfCallable as OfCallable,
    Relu as Relu,
    Sigmoid as Sigmoid,
    Tanh as Tanh,
)
from ._base import AbstractCell as AbstractCell
from ._derivative import StepDerivative as StepDerivative, derivative as derivative
from ._pullback import AbstractPullback as AbstractPullback
from ._elman import Elman as Elman
from ._gru import GRU as GRU
from ._leaky import Leaky as Leaky
from ._lstm import LSTM as LSTM
