"""Whole steps of training a character model, validation aside: this package's beside the same model and loop in careful plain PyTorch.

Embedding, one recurrent layer, linear head, cross-entropy; clipping at norm 1 and fused Adam. Both start from the same weights and read the
same windows.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..cells import GRU, LSTM, Elman
from ..data import Batch
from ..gradients import Carry, TruncatedBPTT
from ..models import LanguageModel
from ..training import ClipNorm, step
from ._contest import contest, timed
from ._row import OURS, Row, Spread

CELLS = {"rnn": (Elman(), nn.RNN, 128), "gru": (GRU(), nn.GRU, 256), "lstm": (LSTM(), nn.LSTM, 256)}
V, T, B = 96, 100, 32


class Plain(nn.Module):
    """What a careful PyTorch user writes: embedding, torch.nn recurrence, linear head, fused cross-entropy."""

    def __init__(self, V: int, peer: type[nn.RNNBase], hidden: int) -> None:
        super().__init__()
        self.embedding, self.recurrence, self.head = nn.Embedding(V, hidden), peer(hidden, hidden), nn.Linear(hidden, V)  # type: ignore[call-arg]

    def forward(self, inputs: Tensor, targets: Tensor, state: Any) -> tuple[Tensor, Any]:
        hs, state = self.recurrence(self.embedding(inputs), state)
        return nn.functional.cross_entropy(self.head(hs).flatten(0, 1), targets.flatten()), state


class PlainTrainer:
    """The loop around it, with the state detached from window to window."""

    def __init__(self, model: Plain) -> None:
        self.model, self.state = model, None
        self.optimizer = torch.optim.Adam(model.parameters(), 2e-3, fused=True)

    def step(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        state = None if self.state is None or batch.fresh is None or batch.fresh[0] else self.state
        loss, state = self.model(batch.inputs, batch.targets, state)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


class OurTrainer:
    """The same by ``throughtime.training.step``."""

    def __init__(self, model: LanguageModel, window: int) -> None:
        self.model, self.gradient = model, TruncatedBPTT(window)
        self.carry: Carry | None = None
        self.optimizer = torch.optim.Adam(model.parameters(), 2e-3, fused=True)

    def step(self, batch: Batch) -> None:
        done = step(self.model, batch, self.carry, gradient=self.gradient, clips=[ClipNorm(1.0)], optimizer=self.optimizer)
        self.carry = done.carry


def pair(cell: str, V: int, hidden: int, window: int) -> dict[str, OurTrainer | PlainTrainer]:
    """Both, from the same weights."""
    ours = LanguageModel(V, cell=CELLS[cell][0], hidden_size=hidden)
    plain = Plain(V, CELLS[cell][1], hidden)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        theirs.data.copy_(mine.data)
    return {OURS: OurTrainer(ours, window), "torch.nn": PlainTrainer(plain)}


def rows(threads: int, seconds: float) -> Iterator[Row]:
    """A row a cell: tokens a second."""
    for cell, (_, _, hidden) in CELLS.items():
        trainers = pair(cell, V, hidden, T)
        ids = torch.randint(V, (T + 1, B), generator=torch.Generator().manual_seed(0))
        batch = Batch(ids[:-1], ids[1:], fresh=torch.zeros(B, dtype=torch.bool))
        times = contest({name: timed(partial(trainer.step, batch)) for name, trainer in trainers.items()}, seconds)
        found = {name: Spread(T * B / s.high, T * B / s.median, T * B / s.low) for name, s in times.items()}
        yield Row("training", f"{cell.upper()} {hidden}, B {B}, window {T}", "tokens/s", found)
