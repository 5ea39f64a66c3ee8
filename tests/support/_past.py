"""Small models and batches, streams cut into calls, and what a method finds over some calls."""

import itertools
from dataclasses import replace

import torch
from _oracle import advance as advance, gradients_of as gradients_of, whole_past as whole_past

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


def vector_model(
    cell: AbstractCell,
    layers=1,
    *,
    H=5,
    bias=True,
    initial=Learnable(),  # noqa: B008
    dropout=0.0,
    input_dropout=0.0,
    reduction="sum",
) -> SequenceModel:
    """Real vectors in, squared error of two outputs."""
    recurrence = Recurrence(cell, I, H, num_layers=layers, bias=bias, initial=initial, dropout=dropout)
    head = Head(H, 2, output=Linear(), loss=SquaredError())
    return randomised(SequenceModel(Vectors(I), recurrence, head, input_dropout=input_dropout, reduction=reduction))


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
    """The same batch with padding and uneven weights; a loss at the last step of the first streams, none at all at step 1."""
    mask = torch.rand(batch.T, batch.B) < 0.8
    mask[-1, :2] = True
    if batch.T > 2:
        mask[1] = False
    return replace(batch, mask=mask, weights=torch.rand(batch.T, batch.B).round(decimals=1) + 0.1)


def cut(batch: Batch, cuts=CUTS, fresh=None) -> list[Batch]:
    """The batch as calls; ``fresh`` says of a call which streams start anew there."""
    fresh = fresh or {}
    return [replace(batch.steps(a, b), fresh=fresh.get(a)) for a, b in itertools.pairwise(cuts)]


def copies(batch: Batch, n: int) -> Batch:
    """Every stream n times."""
    return Batch(*(x.repeat(1, n, *[1] * (x.ndim - 2)) for x in (batch.inputs, batch.targets)))


def calls(method, model: AbstractModel, batches, carry=None):
    """The gradients of some calls in a row, summed, their losses summed, and the last carry."""
    model.zero_grad()
    total = torch.zeros(())
    for batch in batches:
        loss, carry = method.accumulate(model, batch, carry)
        total = total + loss
    return [*gradients_of(model), total], carry
