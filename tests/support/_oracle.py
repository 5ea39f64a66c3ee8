"""The oracle of whole models: every step spelled out with the cell's forward equations, for torch's autograd to differentiate.

L layers · B batch · S states of a cell, each (L, B, H). Nothing here knows how the library walks, keeps or pulls back anything.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from throughtime.cells import AbstractCell
from throughtime.data import Batch
from throughtime.kernels import Parameters
from throughtime.models import AbstractModel


def layer_by_layer(cell: AbstractCell, layers: Sequence[Parameters], x: Tensor, state: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """What every layer leaves after one step from the input x (B, I), given its own parameters."""
    leaving = []
    for ell, p in enumerate(layers):
        s = tuple(part[ell] for part in state)
        wx = torch.einsum("bi,ghi->bgh", x, p.W) + (0 if p.b_ih is None else p.b_ih)
        rh = torch.einsum("bi,ghi->bgh", s[0], p.R) + (0 if p.b_hh is None else p.b_hh)
        leaving.append(tuple(part.clone() for part in cell.step(wx, rh, s)))  # an LSTM's h is not downstream of this c
        x = leaving[-1][0]
    return leaving


def stacked(leaving: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """S tensors (L, B, H)."""
    return tuple(torch.stack(parts) for parts in zip(*leaving, strict=True))


def layers_of(model: AbstractModel) -> list[Parameters]:
    return [model.recurrence.parameters_of(ell) for ell in range(model.recurrence.num_layers)]


def embedded(model: AbstractModel, batch: Batch, t: int) -> Tensor:
    """What enters the recurrence at step t, (B, I), by the model's own station."""
    return model.embed(batch.steps(t, t + 1))[0]


def advance(model: AbstractModel, below: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One step of every layer: the top h (B, H), and the state."""
    leaving = layer_by_layer(model.recurrence.cell, layers_of(model), below, state)
    return leaving[-1][0], stacked(leaving)


def loss_at(model: AbstractModel, batch: Batch, t: int, h: Tensor) -> Tensor:
    """Step t's share of the loss, from the top h (B, H)."""
    return model.losses(h.unsqueeze(0), batch.steps(t, t + 1)).sum() * model.scale(batch)


def restarted(model: AbstractModel, state: Sequence[Tensor] | None, fresh: Tensor | None, B: int) -> tuple[Tensor, ...]:
    """The state that a step starts from: the initial one where a stream is new, else the one carried in."""
    initial = model.initial_state(B)
    if state is None:
        return initial
    if fresh is None:
        return tuple(state)
    return tuple(torch.where(fresh.view(1, -1, 1), new, old) for new, old in zip(initial, state, strict=True))


def one_call(model: AbstractModel, batch: Batch, state=None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss of one call and the state after it, both as a graph of T steps that goes on into ``state``."""
    state, loss = restarted(model, state, batch.fresh, batch.B), torch.zeros(())
    for t in range(batch.T):
        h, state = advance(model, embedded(model, batch, t), state)
        loss = loss + loss_at(model, batch, t, h)
    return loss, state


def whole_past(model: AbstractModel, batches: Sequence[Batch], state=None) -> list[Tensor]:
    """The gradients and the loss of some calls; nothing is detached between them, but where a stream starts anew."""
    model.zero_grad()
    total = torch.zeros(())
    for batch in batches:
        loss, state = one_call(model, batch, state)
        total = total + loss
    total.backward()
    return [*gradients_of(model), total.detach()]


def window_by_window(model: AbstractModel, batch: Batch, starts: Tensor, window: tuple[int, int]) -> list[Tensor]:
    """Truncation's definition: the losses of every k1 steps, run again from k2 steps before their last, whose state is a constant.

    ``starts`` (T, B): where streams begin anew.
    """
    k1, k2 = window
    step = lambda t, state: advance(model, embedded(model, batch, t), restarted(model, state, starts[t], batch.B))
    states = [tuple(s.detach() for s in model.initial_state(batch.B))]
    with torch.no_grad():
        for t in range(batch.T):
            states.append(step(t, states[-1])[1])
    model.zero_grad()
    total = torch.zeros(())
    for start in range(0, batch.T, k1):
        stop = min(start + k1, batch.T)
        state, loss = states[max(0, stop - k2)], torch.zeros(())
        for t in range(max(0, stop - k2), stop):
            h, state = step(t, state)
            if t >= start:
                loss = loss + loss_at(model, batch, t, h)
        loss.backward()
        total = total + loss.detach()
    return [*gradients_of(model), total]


def gradients_of(model: AbstractModel) -> list[Tensor]:
    """A copy of what stands in every ``p.grad``, zeros where there is none."""
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
