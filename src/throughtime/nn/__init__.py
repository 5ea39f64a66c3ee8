"""Recurrent layers: a stack of one cell, its initial state and its initial weights, and layers with the interface of ``torch.nn``."""

from ._accelerate import Accelerated as Accelerated, accelerate as accelerate, as_torch as as_torch, restore as restore
from ._timing import Gain as Gain
from ._cells import GRUCell as GRUCell, LSTMCell as LSTMCell, RNNCell as RNNCell
from ._dropout import Dropout as Dropout, drawn_mask as drawn_mask
from ._initial import (
    AbstractInitial as AbstractInitial,
    Given as Given,
    Learnable as Learnable,
    Random as Random,
    Zeros as Zeros,
)
from ._initialisers import (
    AbstractInitialiser as AbstractInitialiser,
    Chrono as Chrono,
    ForgetBias as ForgetBias,
    IdentityMatrix as IdentityMatrix,
    Orthogonal as Orthogonal,
    TorchUniform as TorchUniform,
)
from ._layer_base import Layers as Layers
from ._layers import GRU as GRU, LSTM as LSTM, RNN as RNN
from ._rows import Rows as Rows, TableProduct as TableProduct
from ._linearised import LinearisedStack as LinearisedStack, LinearisedStep as LinearisedStep, StepAdjoints as StepAdjoints
from ._layer_trace import LayerTrace as LayerTrace
from ._trace import (
    LayerStates as LayerStates,
    Trace as Trace,
    add_to_grads as add_to_grads,
)
from ._stack import Recurrence as Recurrence
from ._bidirectional import Bidirectional as Bidirectional, Padded as Padded
from ._steps import CalledSteps as CalledSteps, Steps as Steps, first_state as first_state, steps_of as steps_of
