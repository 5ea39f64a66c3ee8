"""Small models and batches for the gradient methods, and the gradient of each loss through each step, by brute force.

T time · B batch · P all parameters of the recurrence, end to end.
"""

from dataclasses import replace

import torch
from torch import Tensor

from throughtime.cells import AbstractCell
from throughtime.data import Batch
from throughtime.gradients import AbstractGradient
from throughtime.models import Head, Linear, SequenceModel, SquaredError, Vectors
from throughtime.nn import AbstractInitial, Learnable, Recurrence

I, H, V = 3, 5, 2


def network(cell: AbstractCell, *, layers: int = 2, initial: AbstractInitial = Learnable(), reduction="sum") -> SequenceModel:  # noqa: B008
    """Vectors in, squared error of a linear head; every weight normal, so that no bias or initial state is 0."""
    recurrence = Recurrence(cell, I, H, num_layers=layers, initial=initial)
    model = SequenceModel(Vectors(I), recurrence, Head(H, V, output=Linear(), loss=SquaredError()), reduction=reduction)
    for p in model.parameters():
        p.data.normal_(0.0, 0.5)
    return model


def series(T: int, B: int, *, ragged: bool = False, **options) -> Batch:
    """Normal inputs and targets; ragged: with a mask and uneven weights."""
    batch = Batch(torch.randn(T, B, I), torch.randn(T, B, V), **options)
    return replace(batch, mask=torch.rand(T, B) < 0.8, weights=torch.rand(T, B).round(decimals=1)) if ragged else batch


def accumulated(method: AbstractGradient, model: SequenceModel, batches: list[Batch], carry=None):
    """The summed gradients of some calls, their summed loss, and the last carry."""
    model.zero_grad()
    total = torch.zeros(())
    for batch in batches:
        loss, carry = method.accumulate(model, batch, carry)
        total = total + loss
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()], total, carry


def by_lag(model: SequenceModel, batch: Batch) -> Tensor:
    """(K, P): row k is Σ_s ∂ℓ_s/∂θ through step s − k alone, the recurrence's weights given each step as a copy of their own."""
    stack = model.recurrence
    names = [name for name, _ in stack.named_parameters() if name != "initial"]
    copies = [[stack.get_parameter(name).detach().clone().requires_grad_() for name in names] for _ in range(batch.T)]
    state, losses = tuple(s.detach() for s in model.initial_state(batch.B)), []
    for t in range(batch.T):
        h, state = step_with(stack, dict(zip(names, copies[t], strict=True)), batch.inputs[t], state)
        losses.append(model.losses(h.unsqueeze(0), batch.steps(t, t + 1)).sum() * model.scale(batch))
    rows = [[] for _ in range(batch.T)]
    for s, loss in enumerate(losses):
        flat = [p for copy in copies[: s + 1] for p in copy]
        found = torch.autograd.grad(loss, flat, retain_graph=True, allow_unused=True)
        found = [torch.zeros_like(p) if g is None else g for p, g in zip(flat, found, strict=True)]
        for t in range(s + 1):
            rows[s - t].append(torch.cat([g.flatten() for g in found[t * len(names) : (t + 1) * len(names)]]))
    return torch.stack([sum(row) for row in rows])


def step_with(stack: Recurrence, weights: dict[str, Tensor], x: Tensor, state):
    """One step of every layer, with these weights."""
    G, n, leaving = stack.cell.gates, stack.hidden_size, []
    for layer in range(stack.num_layers):
        W, R, b_ih, b_hh = (weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        s = tuple(part[layer] for part in state)
        after = stack.cell.step((x @ W.T + b_ih).view(-1, G, n), (s[0] @ R.T + b_hh).view(-1, G, n), s)
        leaving.append(after)
        x = after[0]
    return x, tuple(torch.stack(parts) for parts in zip(*leaving, strict=True))


def recurrent(model: SequenceModel, gradients: list[Tensor]) -> Tensor:
    """(P,) of a list of gradients, those of the recurrence's weights end to end."""
    names = [name for name, _ in model.named_parameters()]
    return torch.cat([g.flatten() for n, g in zip(names, gradients, strict=True) if n.startswith("recurrence.") and "initial" not in n])
