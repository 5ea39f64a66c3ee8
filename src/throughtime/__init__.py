"""Train recurrent networks by backpropagation through time: exact, fast, and with the gradient in plain sight.

``_public.py`` lists the public names. Each is imported when it is first used.
"""

from typing import TYPE_CHECKING

from ._lazy import lazily as _lazily
from ._version import __version__ as __version__

if TYPE_CHECKING:
    from ._public import *  # noqa: F403
else:
    __getattr__, __dir__ = _lazily(__name__)
