"""Step, loop, clip, checkpoint and report. ``_public.py`` lists what is here; each name is imported when it is first used."""

from typing import TYPE_CHECKING

from .._lazy import lazily as _lazily

if TYPE_CHECKING:
    from ._public import *  # noqa: F403
else:
    __getattr__, __dir__ = _lazily(__name__)
