"""Training on a synthetic task, whose batches are drawn anew for every update."""

import math
from collections.abc import Callable, Sequence

import torch

from throughtime.data import Batch
from throughtime.gradients import AbstractGradient, FullBPTT
from throughtime.models import AbstractModel
from throughtime.training import AbstractClip, ClipNorm, step

Draw = Callable[[int, torch.Generator], Batch]  # so many sequences


def learn(
    model: AbstractModel,
    draw: Draw,
    optimizer: torch.optim.Optimizer,
    *,
    seed: int,
    updates: int,
    batch_size: int,
    gradient: AbstractGradient = FullBPTT(),  # noqa: B008  a frozen dataclass
    clips: Sequence[AbstractClip] = (ClipNorm(1.0),),
    every: int = 500,
    told: Callable[[int, float], None] = lambda update, loss: print(f"  {update}: {loss:.3g}", flush=True),
) -> None:
    """``updates`` steps; the learning rate falls in a half cosine to a hundredth. ``told``: the mean loss of every ``every`` of them."""
    generator, total = torch.Generator().manual_seed(seed), 0.0
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.01 + 0.99 * (1 + math.cos(math.pi * i / updates)) / 2)
    for update in range(1, updates + 1):
        total += step(model, draw(batch_size, generator), None, gradient=gradient, clips=clips, optimizer=optimizer).loss
        falling.step()
        if update % every == 0:
            told(update, total / every)
            total = 0.0


@torch.no_grad()
def mean_loss(model: AbstractModel, draw: Draw, *, sequences: int, batch_size: int, seed: int = 10**6) -> float:
    """The mean loss of new sequences, which no training has drawn."""
    generator, total = torch.Generator().manual_seed(seed), 0.0
    model.eval()
    for _ in range(sequences // batch_size):
        batch = draw(batch_size, generator)
        hs, _ = model.recurrence(model.embed(batch), model.initial_state(batch_size))
        losses = model.losses(hs, batch)
        total += float(losses.double().sum()) / batch.counted()
    model.train()
    return total / (sequences // batch_size)
