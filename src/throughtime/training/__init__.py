"""Step, loop, clip, checkpoint and report."""

from ._clip import AbstractClip as AbstractClip, ClipNorm as ClipNorm, ClipValue as ClipValue, global_norm as global_norm
from ._evaluate import Score as Score, evaluate as evaluate
from ._export import export_onnx as export_onnx
from ._folder import RunFolder as RunFolder
from ._gradients import METHODS as METHODS, Named as Named, method_of as method_of
from ._loop import Ended as Ended, begin as begin, train as train, training_stream as training_stream
from ._online import OnlineLearner as OnlineLearner
from ._options import (
    LoopOptions as LoopOptions,
    NetworkOptions as NetworkOptions,
    OptimiserOptions as OptimiserOptions,
    TextOptions as TextOptions,
    TextRun as TextRun,
    device as device,
)
from ._report import bar as bar
from ._step import Step as Step, step as step
