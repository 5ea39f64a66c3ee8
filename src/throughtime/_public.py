"""The whole public API, in the order in which a batch passes through the rooms."""

from . import data as data
from . import cells as cells
from . import kernels as kernels
from . import nn as nn
from . import models as models
from . import gradients as gradients
from . import flow as flow
from . import auditing as auditing
from . import training as training
from .data import Batch as Batch, TokenStream as TokenStream
from .models import LanguageModel as LanguageModel, SequenceModel as SequenceModel
from .kernels import compile_cell as compile_cell, set_kernels as set_kernels, set_threads as set_threads
from .nn import (
    RNN as RNN,
    GRU as GRU,
    LSTM as LSTM,
    RNNCell as RNNCell,
    GRUCell as GRUCell,
    LSTMCell as LSTMCell,
    accelerate as accelerate,
    as_torch as as_torch,
    restore as restore,
)
from .flow import gradient_flow as gradient_flow
from .auditing import audit as audit
from .training import (
    OnlineLearner as OnlineLearner,
    Stream as Stream,
    Trained as Trained,
    load as load,
    evaluate as evaluate,
    export_onnx as export_onnx,
)
from ._check import InputError as InputError, NonFinite as NonFinite
