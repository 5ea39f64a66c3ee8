"""Memory of one gradient of a long sequence: the growth of the peak resident set, in a process of its own.

A character model reads T steps of B streams. Every state is kept, or √T states are (``CheckpointedBPTT``, ``torch.utils.checkpoint``).
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..cells import GRU
from ..data import Batch
from ..gradients import CheckpointedBPTT, FullBPTT
from ..models import LanguageModel
from ._row import OURS, Row, Spread

try:
    import resource
except ImportError:  # Windows does not have it
    resource = None

T, B, H, V = 2000, 16, 128, 64
WARM = 40  # steps of a pass before, which makes what is made once


def rows(threads: int, seconds: float) -> Iterator[Row]:
    """Two rows: with every state kept, and with √T of them. None where the system does not tell the peak."""
    if resource is None:
        return
    for case, kept in (("every state kept", "all"), ("√T states kept", "some")):
        found = {name: Spread.of([megabytes(name, kept, threads)]) for name in (OURS, "torch.nn")}
        yield Row("memory", f"GRU {H}, B {B}, T {T}, {case}", "MB", found)


def megabytes(who: str, kept: str, threads: int) -> float:
    """Of one pass in a new process, whose allocator gives every tensor's memory back at once."""
    words = [sys.executable, "-m", __name__, who, kept, str(threads)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    return float(json.loads(subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout))


class Plain(nn.Module):
    """A character model as a careful PyTorch user writes it, over torch's own layer of as many inputs as units."""

    def __init__(self, vocabulary: int, recurrence: nn.RNNBase) -> None:
        super().__init__()
        H = recurrence.hidden_size
        self.embedding, self.recurrence, self.head = nn.Embedding(vocabulary, H), recurrence, nn.Linear(H, vocabulary)

    def segment(self, inputs: Tensor, targets: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The summed loss of some steps, and the state after them."""
        hs, last = self.recurrence(self.embedding(inputs), state)
        return nn.functional.cross_entropy(self.head(hs).flatten(0, 1), targets.flatten(), reduction="sum"), last

    def backward(self, batch: Batch, *, every_state: bool) -> None:
        """One gradient; of segments of √T steps that are checkpointed, where not every state is kept."""
        every = batch.T if every_state else math.ceil(math.sqrt(batch.T))
        loss, state = torch.zeros(()), None
        for start in range(0, batch.T, every):
            piece = batch.steps(start, min(start + every, batch.T))
            given = (piece.inputs, piece.targets, state)
            found, state = self.segment(*given) if every_state else checkpoint(self.segment, *given, use_reentrant=False)  # type: ignore
            loss = loss + found
        (loss / (batch.T * batch.B)).backward()


def contestant(who: str, kept: str) -> Callable[[Batch], object]:
    """One gradient of a batch."""
    if who != OURS:
        plain = Plain(V, nn.GRU(H, H))
        return lambda batch: plain.backward(batch, every_state=kept == "all")
    model, method = LanguageModel(V, cell=GRU(), hidden_size=H), FullBPTT() if kept == "all" else CheckpointedBPTT()
    return lambda batch: method.accumulate(model, batch)


def _batch(steps: int) -> Batch:
    ids = torch.randint(V, (steps + 1, B))
    return Batch(ids[:-1], ids[1:])


def _peak() -> float:
    """Megabytes."""
    assert resource is not None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def main(who: str, kept: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    run, batch = contestant(who, kept), _batch(T)
    run(_batch(WARM))
    before = _peak()
    run(batch)
    print(json.dumps(_peak() - before))


if __name__ == "__main__":
    main(*sys.argv[1:])
