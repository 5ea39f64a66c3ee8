"""What a run is about: one file a task. The loop, the run folder and the shell know a task by ``AbstractTask`` alone."""

from ._base import AbstractTask as AbstractTask
from ._text import TextTask as TextTask, text_windows as text_windows
from ._table import TASKS as TASKS, check_run as check_run
