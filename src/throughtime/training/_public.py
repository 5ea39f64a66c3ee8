"""What the room offers, in walking order."""

from ._clip import AbstractClip as AbstractClip, ClipNorm as ClipNorm, ClipValue as ClipValue, global_norm as global_norm
from ._evaluate import Score as Score, evaluate as evaluate
from ._cost import Estimate as Estimate, estimate as estimate
from ._export import export_onnx as export_onnx
from ._files import check_new_file as check_new_file, write_bytes as write_bytes
from ._folder import RunFolder as RunFolder, path_of_string as path_of_string, seed_runs as seed_runs
from ._lock import discard as discard
from ._gradients import METHODS as METHODS, ShellMethod as ShellMethod, method_of as method_of
from ._loop import (
    Ended as Ended,
    Training as Training,
    begin as begin,
    check_ranks as check_ranks,
    resumed as resumed,
    train as train,
)
from ._online import OnlineLearner as OnlineLearner
from .options import (
    AnyRun as AnyRun,
    FramesOptions as FramesOptions,
    FramesRun as FramesRun,
    LabelsOptions as LabelsOptions,
    LabelsRun as LabelsRun,
    LoopOptions as LoopOptions,
    NetworkOptions as NetworkOptions,
    OptimiserOptions as OptimiserOptions,
    SeriesOptions as SeriesOptions,
    SeriesRun as SeriesRun,
    StackOptions as StackOptions,
    TextOptions as TextOptions,
    TextRun as TextRun,
)
from ._build import (
    build_cell as build_cell,
    name_cell as name_cell,
    device as device,
    lower as lower,
    planned as planned,
)
from ._optimisers import build_optimizer as build_optimizer
from ._ranks import ALONE as ALONE, LostRankError as LostRankError, Ranks as Ranks, together as together
from ._rows import read_rows as read_rows
from ._unit import BITS as BITS, Unit as Unit, number as number
from ._score import AbstractScore as AbstractScore
from .tasks import (
    TASKS as TASKS,
    AbstractTask as AbstractTask,
    TextTask as TextTask,
    check_run as check_run,
    text_windows as text_windows,
)
from ._backtest import Backtest as Backtest, backtest as backtest
from ._roll import Rolled as Rolled, roll as roll
from ._forecasts import Forecast as Forecast, TrainedForecaster as TrainedForecaster, write_forecast as write_forecast
from ._frame_score import FrameScore as FrameScore, measure_frames as measure_frames
from ._label_score import LabelScore as LabelScore, measure_labels as measure_labels
from ._trained import Trained as Trained
from ._trained_frames import TrainedFrames as TrainedFrames, write_pieces_file as write_pieces_file
from ._trained_labels import Predictions as Predictions, TrainedClassifier as TrainedClassifier, write_predictions as write_predictions
from ._face import AbstractTrained as AbstractTrained
from ._load import Stream as Stream, load as load
from ._step import Step as Step, step as step
