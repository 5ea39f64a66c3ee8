"""What can be chosen of a training run. These dataclasses are the command's flags, and the sections of ``config.json``.

Nothing of torch is imported before something is built, so that a wrong flag is told at once.
"""

from ._network import CELLS as CELLS, GALLERY as GALLERY, NetworkOptions as NetworkOptions, StackOptions as StackOptions
from ._optimiser import OptimiserName as OptimiserName, OptimiserOptions as OptimiserOptions
from ._save_every import SaveEvery as SaveEvery
from ._loop import LoopOptions as LoopOptions
from ._run import AnyRun as AnyRun
from ._text import TextOptions as TextOptions, TextRun as TextRun
from ._series import SeriesOptions as SeriesOptions, SeriesRun as SeriesRun
from ._frames import FramesOptions as FramesOptions, FramesRun as FramesRun
from ._labels import LabelsOptions as LabelsOptions, LabelsRun as LabelsRun
