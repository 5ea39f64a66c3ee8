"""``throughtime cache``: the compiled kernels of cells of one's own."""

from .._numbers import counted
from ..kernels import cache_about, clear_cache
from ._app import Call
from ._verbs import Cache


def cache(chosen: Cache, call: Call) -> int:
    """The verb."""
    if chosen.clear:
        print(f"{counted(clear_cache(), 'compiled cell')} removed")
    print(cache_about())
    return 0
