"""Where in a text ``flow`` and ``compare-gradients`` look: the second window of every stream, from the state that the first one leaves.

T time · B batch · L layers · H hidden.
"""

import torch

from .._check import InputError
from .._shapes import State
from ..data import Batch, Section, TokenStream
from ..models import LanguageModel
from ..training import RunFolder

STREAMS = 8  # places of the text, side by side


def usual_steps(folder: RunFolder) -> int:
    """Two of the windows that the run is trained on, so that one sees what a window misses."""
    return 2 * folder.config.loop.bptt


def held_out(folder: RunFolder) -> tuple[str, Section]:
    """The run's validation text and its name; its longest section where it has none."""
    sections = folder.corpus().sections
    name = "valid" if len(sections["valid"].tokens) >= 2 else max(sections, key=lambda name: len(sections[name].tokens))
    return name, sections[name]


def place(model: LanguageModel, section: Section, name: str, steps: int, streams: int) -> tuple[Batch, State | None]:
    """A batch of T = ``steps``, and the state before it; a text that is too short for two windows is read from its start.

    Args:
        model: reads the first window.
        section: the text.
        name: of the text, for the message.
        steps: T.
        streams: B at most; fewer where the text has no room for two windows of each.

    Returns:
        The batch, and S tensors (L, B, H); None where the batch starts the text.

    Raises:
        InputError: a text of fewer than two symbols.
    """
    if (size := len(section.tokens)) < 2:
        raise InputError(f"{name} has {size} symbols; expected at least 2, to predict one. Give a longer text.")
    B = max(1, min(streams, (size - 1) // (2 * steps)))
    stream = TokenStream(section.tokens, batch_size=B, window=steps)
    device = next(model.parameters()).device
    first = stream[0].to(device)
    if stream.steps < 2 * steps:
        return first, None
    with torch.no_grad():
        _, state = model.recurrence(model.enter(first))
    return stream[1].to(device), state
