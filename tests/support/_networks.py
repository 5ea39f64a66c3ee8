"""Small models and batches for the gradient methods, and the gradient of each loss through each step, by brute force.

T time · B batch · P all parameters of the recurrence, end to end.
"""

import _past
import torch
from _oracle import layer_by_layer, loss_at, stacked
from _past import calls, vector_model, vectors
from torch import Tensor

from throughtime.cells import AbstractCell
from throughtime.data import Batch
from throughtime.gradients import AbstractGradient
from throughtime.kernels import Parameters
from throughtime.models import SequenceModel
from throughtime.nn import Recurrence


def network(cell: AbstractCell, *, layers: int = 2, **options) -> SequenceModel:
    """Vectors in, squared error of a linear head; every weight normal, so that no bias or initial state is 0."""
    return vector_model(cell, layers, **options)


def series(T: int, B: int, *, ragged: bool = False, **options) -> Batch:
    """Normal inputs and targets; ragged: with a mask and uneven weights."""
    return _past.ragged(vectors(T, B, **options)) if ragged else vectors(T, B, **options)


def accumulated(method: AbstractGradient, model: SequenceModel, batches: list[Batch], carry=None):
    """The summed gradients of some calls, their summed loss, and the last carry."""
    (*grads, total), carry = calls(method, model, batches, carry)
    return grads, total, carry


def by_lag(model: SequenceModel, batch: Batch) -> Tensor:
    """(K, P): row k is Σ_s ∂ℓ_s/∂θ through step s − k alone, the recurrence's weights given each step as a copy of their own."""
    stack = model.recurrence
    names = [name for name, _ in stack.named_parameters() if name != "initial"]
    copies = [[stack.get_parameter(name).detach().clone().requires_grad_() for name in names] for _ in range(batch.T)]
    state, losses = tuple(s.detach() for s in model.initial_state(batch.B)), []
    for t in range(batch.T):
        leaving = layer_by_layer(stack.cell, parameters_from(stack, dict(zip(names, copies[t], strict=True))), batch.inputs[t], state)
        h, state = leaving[-1][0], stacked(leaving)
        losses.append(loss_at(model, batch, t, h))
    rows = [[] for _ in range(batch.T)]
    for s, loss in enumerate(losses):
        flat = [p for copy in copies[: s + 1] for p in copy]
        found = torch.autograd.grad(loss, flat, retain_graph=True, allow_unused=True)
        found = [torch.zeros_like(p) if g is None else g for p, g in zip(flat, found, strict=True)]
        for t in range(s + 1):
            rows[s - t].append(torch.cat([g.flatten() for g in found[t * len(names) : (t + 1) * len(names)]]))
    return torch.stack([sum(row) for row in rows])


def parameters_from(stack: Recurrence, weights: dict[str, Tensor]) -> list[Parameters]:
    """Every layer's parameters, taken from these weights by torch's names."""
    G, n = stack.cell.gates, stack.hidden_size
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    of = lambda ell: (weights[f"{name}_l{ell}"] for name in names)
    return [Parameters(*(w.view(G, n, *w.shape[1:]) for w in of(ell))) for ell in range(stack.num_layers)]


def recurrent(model: SequenceModel, gradients: list[Tensor]) -> Tensor:
    """(P,) of a list of gradients, those of the recurrence's weights end to end."""
    names = [name for name, _ in model.named_parameters()]
    return torch.cat([g.flatten() for n, g in zip(names, gradients, strict=True) if n.startswith("recurrence.") and "initial" not in n])
