"""Training, epoch by epoch: the package's own step over its own batches, with all that the next epoch depends on in one object."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from ..data import AbstractStream
from ..gradients import AbstractGradient, Carry
from ..models import AbstractModel
from ..training import AbstractClip, OptimiserOptions, build_optimizer, step


@final
class Learner:
    """A model with its optimiser's moments, the number of epochs done and the state of the random generator.

    Epochs learned at once or one at a time, with a copy or a pickle in between, give the same bits.

    Args:
        build: makes the model; its weights are drawn from torch's global generator, which is seeded meanwhile.
        optimiser: which one.
        seed: of weights, dropout and random methods.
        device: where to compute.

    Attributes:
        losses: the mean training loss of each epoch.
        measured: the validation loss after each epoch that had one.
    """

    def __init__(self, build: Callable[[], AbstractModel], optimiser: OptimiserOptions, seed: int, device: torch.device) -> None:
        self._generator: Tensor | None = None
        self._carry: Carry | None = None
        self.seed, self.device = seed, device
        self.losses: list[float] = []
        self.measured: list[float] = []
        with self._drawing():
            self.model = build().to(device, torch.float32)  # whatever torch.set_default_dtype says
        self.optimizer = build_optimizer(optimiser, self.model)

    def learn(
        self,
        stream: AbstractStream,
        epochs: int,
        *,
        gradient: AbstractGradient,
        clips: Sequence[AbstractClip],
        valid: AbstractStream | None = None,
        patience: int = 10,
    ) -> None:
        """Some epochs.

        Args:
            stream: the batches; its order in an epoch depends on its seed and on the number of the epoch.
            epochs: how many, at most.
            gradient: how dL/dθ is found.
            clips: of the gradient.
            valid: measured after every epoch; the weights that did best there are kept, and training ends early; None: neither.
            patience: that many epochs without a better one end it.

        Raises:
            NonFinite: a loss or a gradient is.
        """
        best, kept, waited = float("inf"), None, 0
        for _ in range(epochs):
            with self._drawing():
                self.losses.append(self._epoch(stream, gradient, clips))
            if valid is None:
                continue
            self.measured.append(self.measure(valid))
            waited = 0 if self.measured[-1] < best else waited + 1
            if waited == 0:
                best, kept = self.measured[-1], [p.detach().clone() for p in self.model.parameters()]
            if waited >= patience:
                break
        if kept is not None:
            with torch.no_grad():
                for p, of_best in zip(self.model.parameters(), kept, strict=True):
                    p.copy_(of_best)

    def _epoch(self, stream: AbstractStream, gradient: AbstractGradient, clips: Sequence[AbstractClip]) -> float:
        """One pass; its mean loss."""
        first, total, counted = len(self.losses) * len(stream), 0.0, 0
        self.model.train()
        try:
            for i in range(first, first + len(stream)):
                batch = stream.at(i).to(self.device)
                carry = self._carry if self._carry is None or self._carry.state[0].shape[1] == batch.B else None
                loss, _, _, self._carry = step(self.model, batch, carry, gradient=gradient, clips=clips, optimizer=self.optimizer)
                total, counted = total + loss * batch.counted(), counted + batch.counted()
        finally:
            self.model.eval()
        return total / max(1, counted)

    @torch.no_grad()
    def measure(self, stream: AbstractStream) -> float:
        """The mean loss over one pass, without learning."""
        total, counted, state = 0.0, 0, None
        for i in range(len(stream)):
            batch = stream[i].to(self.device)
            fresh = state is None or bool(batch.fresh is not None and batch.fresh.any())
            hs, state = self.model.recurrence(self.model.enter(batch), self.model.initial_state(batch.B) if fresh else state)
            total, counted = total + float(self.model.losses(hs, batch).double().sum()), counted + batch.counted()
        return total / max(1, counted)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """torch's generator is this one's meanwhile, and the process's own again afterwards."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed) if self._generator is None else torch.set_rng_state(self._generator)
            yield
            self._generator = torch.get_rng_state()
