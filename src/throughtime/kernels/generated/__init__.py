"""Kernels for cells of one's own, written from the trace of their ``step`` and compiled at their first use.

``_step`` reads torch's trace into ``_expressions`` by way of ``_arrays`` and ``_operators``; ``_keep`` chooses what the way forward leaves
for the way back; ``_write`` writes C++; ``_compiler`` and ``_cache`` make a file of it once; ``_own`` does all of this for a cell and
remembers it.
"""

from ._cache import cache_about as cache_about, clear_cache as clear_cache
from ._compiler import compiler_about as compiler_about
from ._own import (
    BY_NAME as BY_NAME,
    Own as Own,
    compile_cell as compile_cell,
    has_vectors as has_vectors,
    known as known,
    known_learned as known_learned,
    learned_vectors as learned_vectors,
    name as name,
    number as number,
    own as own,
    own_vectors as own_vectors,
    why_not as why_not,
)
from ._refused import Refused as Refused
from ._step import differentiated_by_hand as differentiated_by_hand
from ._survey import between as between
from ._vectors import (
    tensors_of as tensors_of,
    vector_derivatives as vector_derivatives,
    vector_gradients as vector_gradients,
    vectors_of as vectors_of,
    with_learned as with_learned,
)
