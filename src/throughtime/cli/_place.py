"""Where in the data ``flow`` and ``compare-gradients`` look: the second window of every stream, from the state that the first one leaves.

T time · B batch · L layers · H hidden.
"""

import torch

from .._shapes import State
from ..data import AbstractStream, Batch
from ..models import AbstractModel
from ..training import RunFolder

STREAMS = 8  # places of the data, side by side


def usual_steps(folder: RunFolder) -> int:
    """Two of the windows that the run is trained on, so that one sees what a window misses."""
    return 2 * folder.config.loop.bptt


def place(model: AbstractModel, stream: AbstractStream) -> tuple[Batch, State | None]:
    """The second window of a stream and the state before it; the first one where the second is shorter.

    Args:
        model: reads the first window.
        stream: from the start of some data.

    Returns:
        The batch, and S tensors (L, B, H); None where the batch starts the data.
    """
    device = next(model.parameters()).device
    first = stream[0].to(device)
    if len(stream) < 2 or stream[1].T < first.T:
        return first, None
    with torch.no_grad():
        _, state = model.recurrence(model.enter(first))
    return stream[1].to(device), state
