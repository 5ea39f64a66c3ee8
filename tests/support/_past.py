"""Streams cut into calls, and their gradient over the whole past: every step spelled out, differentiated by autograd through all calls."""

import itertools
from dataclasses import replace

import torch

from throughtime.cells import AbstractCell
from throughtime.data import Batch
from throughtime.models import AbstractModel, Head, LanguageModel, SequenceModel, SquaredError, Vectors
from throughtime.models._losses import Linear
from throughtime.nn import Learnable, Recurrence

V, I, T, B = 7, 3, 12, 4
CUTS = (0, 1, 5, 7, T)


def language_model(cell: AbstractCell, layers=1, *, H=5, initial=Learnable(), reduction="sum", **options) -> LanguageModel:  # noqa: B008
    """Indices in; every parameter random, the initial state too."""
    options = {"embedding_size": I} | options
    model = LanguageModel(V, cell=cell, hidden_size=H, num_layers=layers, initial=initial, reduction=reduction, **options)
    return randomised(model)


def vector_model(cell: AbstractCell, layers=1, *, H=5, bias=True, initial=Learnable(), dropout=0.0) -> SequenceModel:  # noqa: B008
    """Real vectors in, squared error of two outputs."""
    recurrence = Recurrence(cell, I, H, num_layers=layers, bias=bias, initial=initial, dropout=dropout)
    return randomised(SequenceModel(Vectors(I), recurrence, Head(H, 2, output=Linear(), loss=SquaredError()), reduction="sum"))


def randomised(model):
    for p in model.parameters():
        p.data.normal_(0.0, 0.8 / p.shape[-1] ** 0.5)
    return model


def text(T=T, B=B, **options) -> Batch:
    ids = torch.randint(V, (T + 1, B))
    return Batch(ids[:-1], ids[1:], **options)


def vectors(T=T, B=B, **options) -> Batch:
    return Batch(torch.randn(T, B, I), torch.randn(T, B, 2), **options)


def ragged(batch: Batch) -> Batch:
    """The same batch with padding and uneven weights."""
    return replace(batch, mask=torch.rand(batch.T, batch.B) < 0.8, weights=torch.rand(batch.T, batch.B).round(decimals=1))


def cut(batch: Batch, cuts=CUTS, fresh=None) -> list[Batch]:
    """The batch as calls; ``fresh`` says of a call which streams start anew there."""
    fresh = fresh or {}
    return [replace(batch.steps(a, b), fresh=fresh.get(a)) for a, b in itertools.pairwise(cuts)]


def calls(method, model: AbstractModel, batches, carry=None):
    """The gradients of some calls in a row, summed, their losses summed, and the last carry."""
    model.zero_grad()
    total = torch.zeros(())
    for batch in batches:
        loss, carry = method.accumulate(model, batch, carry)
        total = total + loss
    return [*gradients_of(model), total], carry


def gradients_of(model):
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def whole_past(model: AbstractModel, batches, state=None):
    """The truth: nothing is detached between calls, but where a stream starts anew."""
    model.zero_grad()
    total = torch.zeros(())
    for batch in batches:
        new = model.initial_state(batch.B)
        if state is None:
            state = new
        elif batch.fresh is not None:
            state = tuple(torch.where(batch.fresh.view(1, -1, 1), a, b) for a, b in zip(new, state, strict=True))
        for t in range(batch.T):
            h, state = advance(model, model.embed(batch.steps(t, t + 1))[0], state)
            total = total + model.losses(h.unsqueeze(0), batch.steps(t, t + 1)).sum() * model.scale(batch)
    total.backward()
    return [*gradients_of(model), total.detach()]


def advance(model, below, state):
    """One step of every layer by the cell's forward equations: the top h, and the state."""
    leaving = []
    for layer in range(model.recurrence.num_layers):
        p = model.recurrence.parameters_of(layer)
        s = tuple(part[layer] for part in state)
        wx = torch.einsum("bi,ghi->bgh", below, p.W) + (0 if p.b_ih is None else p.b_ih)
        rh = torch.einsum("bi,ghi->bgh", s[0], p.R) + (0 if p.b_hh is None else p.b_hh)
        leaving.append(model.recurrence.cell.step(wx, rh, s))
        below = leaving[-1][0]
    return below, tuple(torch.stack(parts) for parts in zip(*leaving, strict=True))
