"""The gradient's paths, one at a time: each loss led back by torch's autograd through the unrolled loop, cut where a lag says."""

import copy
from dataclasses import dataclass

import torch
from _oracle import embedded, layer_by_layer, layers_of, restarted, stacked
from torch import Tensor


def advance(model, batch, t, state):
    """(h, x, layers' states after), from S tensors (L, B, H)."""
    x = embedded(model, batch, t)
    after = layer_by_layer(model.recurrence.cell, layers_of(model), x, state)
    return after[-1][0], x, after


@dataclass
class Paths:
    """Every pair (t, k) on its own."""

    joint: Tensor  # (T, K, B) norms, NaN where k > t
    layers: Tensor  # (L, T, K, B)
    inputs: Tensor  # (T, K, B)
    border: Tensor  # (T, B) the adjoint of the state before step 0
    parts: dict[str, Tensor]  # parameter → (K, *shape) g^(k)


def paths(model, batch, state=None) -> Paths:
    """The definition, in T (T + 1) / 2 backward passes. ``state``: what is carried in, a constant; fresh streams start anew."""
    T, B, L = batch.T, batch.B, model.recurrence.num_layers
    frozen = copy.deepcopy(model).requires_grad_(False)
    nan = float("nan")
    found = Paths(
        torch.full((T, T, B), nan), torch.full((L, T, T, B), nan), torch.full((T, T, B), nan), torch.full((T, B), nan),
        {name: torch.zeros(T, *p.shape) for name, p in model.named_parameters()},
    )  # fmt: skip
    starts = restarted(model, state, batch.fresh, batch.B)
    states = [tuple(s.detach() for s in starts)]
    for t in range(T):
        states.append(stacked(advance(frozen, batch, t, states[-1])[2]))
    for t in range(T):
        for k in range(t + 1):
            _one(found, model, frozen, batch, starts, states, t, k)
    return found


def _one(found, model, frozen, batch, starts, states, t, k):
    u = t - k
    before = tuple(s.detach().requires_grad_() for s in states[0]) if u == 0 else states[u]
    live_before = starts if u == 0 else states[u]
    # parameters live at step u alone (and, with lag 0, in the head): their part of the gradient
    _, _, after = advance(model, batch, u, live_before)
    loss = _loss(model if k == 0 else frozen, frozen, batch, stacked(after), u, t) * model.scale(batch)
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, retain_graph=True)
    for name, g in zip(parameters, grads, strict=True):
        if g is not None:
            found.parts[name][k] += g
    # adjoints of what stands at step u: each layer's output by every path, the input, and the state before step 0
    _, _, after = advance(model, batch, u, before)
    loss = _loss(frozen, frozen, batch, stacked(after), u, t)
    wanted = [s for layer in after for s in layer]
    ends = list(before) if u == 0 else []
    adjoints = _grad(loss, [*wanted, *ends])
    S = model.recurrence.cell.states
    for ell in range(len(after)):
        found.layers[ell, t, k] = _norm(adjoints[ell * S : (ell + 1) * S])
    if u == 0:
        found.border[t] = torch.stack(adjoints[len(wanted) :]).movedim(2, 0).flatten(1).norm(dim=1)
    # of the joint state: every layer's state a leaf of its own
    leaves = tuple(s.detach().requires_grad_() for s in states[u + 1])
    found.joint[t, k] = _norm([layer for s in _grad(_loss(frozen, frozen, batch, leaves, u, t), leaves) for layer in s])
    found.inputs[t, k] = _input_norm(frozen, batch, states, u, t)


def _loss(head, frozen, batch, state, u, t):
    """Σ over streams of L_t, from the joint state after step u."""
    for v in range(u + 1, t + 1):
        state = stacked(advance(frozen, batch, v, state)[2])
    return head.losses(state[0][-1].unsqueeze(0), batch.steps(t, t + 1)).sum()


def _input_norm(frozen, batch, states, u, t):
    leaf = frozen.embed(batch.steps(u, u + 1)).detach().requires_grad_()

    class Fed:
        recurrence = frozen.recurrence

        @staticmethod
        def embed(_):
            return leaf

    after = stacked(advance(Fed, batch, u, states[u])[2])
    return _norm([_grad(_loss(frozen, frozen, batch, after, u, t), [leaf])[0][0]])


def _grad(loss, wanted):
    if not loss.requires_grad:
        return [torch.zeros_like(w) for w in wanted]
    found = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


def _norm(parts):
    """(B,) over parts (B, H) together."""
    return torch.cat(list(parts), 1).norm(dim=1)
