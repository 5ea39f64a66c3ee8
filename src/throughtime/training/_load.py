"""A run folder, opened for use from Python."""

from pathlib import Path

from ._build import device as device_of
from ._folder import RunFolder
from ._forecasts import TrainedForecaster
from ._rows import read_rows
from ._stream import Stream as Stream
from ._trained import Trained
from ._trained_frames import TrainedFrames
from ._trained_labels import TrainedClassifier


def load(path: Path | str, *, device: str = "cpu") -> Trained | TrainedForecaster | TrainedFrames | TrainedClassifier:
    """A run folder, ready to use: ``tt.load("runs/book").generate("The ")``.

    Args:
        path: a folder that ``throughtime train`` made.
        device: where to compute.

    Raises:
        InputError: no run is there, or it is damaged.
    """
    folder = RunFolder.open(Path(path))
    task = folder.task()
    model = folder.load_model(task, device_of(device))
    return task.face(model, folder.config, read_rows(folder.metrics, folder.unit.drawn), folder.path)


Stream.opened = staticmethod(load)
