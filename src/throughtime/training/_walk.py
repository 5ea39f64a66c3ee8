"""A model over sequences that it is measured on, window by window."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..data import Batch, Place, SequenceStream
from ..models import AbstractModel


class Seen(NamedTuple):
    """A window and what the recurrence made of it."""

    places: list[Place]  # what each stream reads
    batch: Batch
    hs: Tensor  # (T, B, H)


def walk(model: AbstractModel, stream: SequenceStream, progress: Callable[[int, int], None]) -> Iterator[Seen]:
    """Every window of a stream, in evaluation mode and without gradients; the state is carried on where sequences go on.

    Args:
        model: as it was afterwards.
        stream: sequences.
        progress: told windows done and in all.
    """
    device, was_training, state = model.head.weight.device, model.training, None
    model.eval()
    try:
        for i in range(len(stream)):
            places, _ = stream.layout(i)
            batch = stream[i].to(device)
            with torch.no_grad():
                hs, state = model.recurrence(model.enter(batch), None if places[0].start == 0 else state)
            yield Seen(places, batch, hs)
            progress(i + 1, len(stream))
    finally:
        model.train(was_training)
