"""``throughtime cache``: the compiled kernels of cells of one's own."""

from ..kernels import cache_about, clear_cache
from ._app import Call
from ._verbs import Cache


def cache(chosen: Cache, call: Call) -> int:
    """The verb."""
    if chosen.clear:
        print(f"{clear_cache()} compiled cells removed")
    print(cache_about())
    return 0
