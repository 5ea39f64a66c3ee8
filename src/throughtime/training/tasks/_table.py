"""The tasks by name, as config.json and the command call them."""

from .._build import check_cell, device, gradient_of
from ..options import AnyRun, FramesRun, LabelsRun, SeriesRun, TextRun
from ._base import AbstractTask
from ._frames import FramesTask
from ._labels import LabelsTask
from ._series import SeriesTask
from ._text import TextTask

TASKS: dict[str, tuple[type[AnyRun], type[AbstractTask]]] = {
    "text": (TextRun, TextTask),
    "series": (SeriesRun, SeriesTask),
    "frames": (FramesRun, FramesTask),
    "labels": (LabelsRun, LabelsTask),
}


def check_run(run: AnyRun) -> None:
    """Refuse what means nothing, or cannot be here, before anything is read or made."""
    run.check()
    gradient_of(run)  # before its memory is counted
    TASKS[run.task][1].check(run)
    device(run.loop.device)
    check_cell(run.network, run.loop)
