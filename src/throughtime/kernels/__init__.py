"""The recurrence of one layer through time: the plain loop that defines it, the packed kernels, and their nodes in autograd."""

from ._choice import (
    Kernels as Kernels,
    get_kernels as get_kernels,
    get_threads as get_threads,
    set_kernels as set_kernels,
    set_threads as set_threads,
)
from ._cross_entropy import linear_cross_entropy as linear_cross_entropy, logits_memory as logits_memory
from ._dispatch import (
    backward as backward,
    backward_stack as backward_stack,
    forward as forward,
    forward_stack as forward_stack,
    states as states,
)
from ._fast import architecture as architecture, architectures as architectures
from .generated import (
    cache_about as cache_about,
    clear_cache as clear_cache,
    compile_cell as compile_cell,
    compiler_about as compiler_about,
    learned_vectors as learned_vectors,
    vector_derivatives as vector_derivatives,
    vector_gradients as vector_gradients,
)
from ._memory import MemoryUse as MemoryUse, memory_use as memory_use
from ._table import TABLE as TABLE, OnnxOperator as OnnxOperator, known as known
from ._recurrence import is_watched as is_watched, recurrence as recurrence, serves as serves
from ._several import Several as Several, several as several, several_of as several_of
from ._steps import PackedSteps as PackedSteps, can_step as can_step
from ._types import (
    FORWARD as FORWARD,
    Gradients as Gradients,
    Memory as Memory,
    LayerParameters as LayerParameters,
    Parameters as Parameters,
    RecurrentParameters as RecurrentParameters,
    Run as Run,
    Start as Start,
    Traversal as Traversal,
    flat as flat,
)
from ._unrolled import Variation as Variation, unrolled as unrolled
