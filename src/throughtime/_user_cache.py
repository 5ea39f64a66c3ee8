"""Where this user's system keeps what can be had again."""

import os
import sys
from pathlib import Path


def user_cache() -> Path:
    """The package's folder there; it may not exist yet."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "throughtime"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "throughtime"
