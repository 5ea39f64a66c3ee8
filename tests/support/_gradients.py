"""Every gradient method beside what it promises: adding a method is adding a row."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from _oracle import embedded, gradients_of, layers_of, loss_at, one_call, restarted, stacked, whole_past, window_by_window
from _tables import CELLS, KINDS, skewed
from torch import Tensor

from throughtime.cells import GRU, LSTM, AbstractCell, Elman, Identity, Leaky, Relu, Sigmoid
from throughtime.data import Batch
from throughtime.gradients import (
    KFRTRL,
    RFLO,
    RTRL,
    UORO,
    AbstractGradient,
    AdaptiveBPTT,
    BlockRTRL,
    CheckpointedBPTT,
    EProp,
    FullBPTT,
    RandomTruncatedBPTT,
    SlidingBPTT,
    SnAp,
    Symmetric,
    TruncatedBPTT,
    WithOmega,
    omega,
)
from throughtime.models import AbstractModel

Definition = Callable[[AbstractModel, Sequence[Batch]], list[Tensor]]  # of some calls in a row: the gradients, and the loss


@final
@dataclass(frozen=True)
class EachCall:
    """The gradient itself of each call, whose carried state is a constant."""

    def __call__(self, model: AbstractModel, batches: Sequence[Batch]) -> list[Tensor]:
        found = [whole_past(model, [batch], state) for batch, state in _carried(model, batches)]
        return [sum(parts) for parts in zip(*found, strict=True)]


@final
@dataclass(frozen=True)
class WholePast:
    """The gradient itself, through all calls."""

    def __call__(self, model: AbstractModel, batches: Sequence[Batch]) -> list[Tensor]:
        return whole_past(model, batches)


@final
@dataclass(frozen=True)
class Window:
    """Every k1 steps' losses, led back k2 steps from their last; calls are cut where windows begin."""

    k1: int
    k2: int

    def __call__(self, model: AbstractModel, batches: Sequence[Batch]) -> list[Tensor]:
        return window_by_window(model, *_joined(batches), (self.k1, self.k2))


@final
@dataclass(frozen=True)
class OwnStateOnly:
    """A unit's past reaches it through its own state; what R brings from other steps is a constant."""

    def __call__(self, model: AbstractModel, batches: Sequence[Batch]) -> list[Tensor]:
        model.zero_grad()
        state, loss, cell = None, torch.zeros(()), model.recurrence.cell
        (p,) = layers_of(model)
        for batch in batches:
            state = restarted(model, state, batch.fresh, batch.B)
            for t in range(batch.T):
                wx = torch.einsum("bi,ghi->bgh", embedded(model, batch, t), p.W) + p.b_ih
                rh = torch.einsum("bi,ghi->bgh", state[0][0].detach(), p.R) + p.b_hh
                state = stacked([cell.step(wx, rh, tuple(s[0] for s in state))])
                loss = loss + loss_at(model, batch, t, state[0][-1])
        loss.backward()
        return [*gradients_of(model), loss.detach()]


@final
@dataclass(frozen=True)
class PlusOmega:
    """The gradient of each call, and ``weight`` times that of Ω (tests/gradients/test_omega.py has Ω by its equation)."""

    weight: float

    def __call__(self, model: AbstractModel, batches: Sequence[Batch]) -> list[Tensor]:
        *grads, loss = EachCall()(model, batches)
        names = [name for name, _ in model.named_parameters()]
        for batch, state in _carried(model, batches):
            for ell, extra in enumerate(omega(model, batch, state).gradients):
                grads[names.index(f"recurrence.weight_hh_l{ell}")] += self.weight * extra
        return [*grads, loss]


def _carried(model: AbstractModel, batches: Sequence[Batch]) -> Iterator[tuple[Batch, tuple[Tensor, ...] | None]]:
    """Every call with the state that is carried into it."""
    state = None
    for batch in batches:
        yield batch, state
        with torch.no_grad():
            state = one_call(model, batch, state)[1]


def _joined(batches: Sequence[Batch]) -> tuple[Batch, Tensor]:
    """All calls as one, and where streams begin anew in it."""
    first, one = batches[0], {}
    for field in ("inputs", "targets", "mask", "weights"):
        parts = [getattr(batch, field) for batch in batches]
        one[field] = None if parts[0] is None else torch.cat(parts)
    starts = torch.zeros(len(one["inputs"]), first.B, dtype=torch.bool)
    for batch, at in zip(batches, itertools.accumulate((b.T for b in batches), initial=0), strict=False):
        starts[at] = at == 0 if batch.fresh is None else batch.fresh
    starts[0] = True
    return Batch(**one), starts


@final
@dataclass(frozen=True)
class Row:
    """A method, its definition, and what it is defined for."""

    method: AbstractGradient
    definition: Definition
    cells: tuple[AbstractCell, ...] = tuple(KINDS)
    layers: int = 2

    def __str__(self) -> str:
        return str(self.method)

    @property
    def window(self) -> tuple[int, int] | None:
        return (self.definition.k1, self.definition.k2) if isinstance(self.definition, Window) else None


EXACT, ALL = EachCall(), tuple(CELLS)
ELMANS = (Elman(), Elman(Relu()), Elman(skewed))
LEAKY = (Elman(), Elman(Sigmoid()), Elman(Identity()), Leaky(0.3))

DEFINED = [
    Row(FullBPTT(), EXACT, ALL),
    Row(TruncatedBPTT(4), Window(4, 4)),
    Row(TruncatedBPTT(3, 5), Window(3, 5), ALL),
    Row(TruncatedBPTT(1, 6), Window(1, 6)),
    Row(TruncatedBPTT(5), Window(5, 5)),
    Row(TruncatedBPTT(5, 7), Window(5, 7)),
    Row(TruncatedBPTT(5, 100), Window(5, 100)),
    Row(CheckpointedBPTT(), EXACT),
    Row(CheckpointedBPTT(every=5), EXACT, ALL),
    Row(CheckpointedBPTT(snapshots=2, unit=1), EXACT),
    Row(CheckpointedBPTT(budget="12kB"), EXACT),
    Row(SlidingBPTT(6), Window(1, 6), ALL),
    Row(SlidingBPTT(14), Window(1, 14)),
    Row(AdaptiveBPTT(1e-12, 5), Window(5, 9)),  # a tolerance that no window meets: the largest, every time
    Row(RTRL(), WholePast(), ALL),
    Row(BlockRTRL(5), WholePast(), ALL),
    Row(SnAp(100), WholePast()),  # whose pattern is full by then; smaller ones in tests/gradients/test_local_rules.py
    Row(RFLO(Symmetric()), OwnStateOnly(), LEAKY, layers=1),
    Row(EProp(), OwnStateOnly(), (*LEAKY, GRU(), LSTM()), layers=1),
    Row(WithOmega(FullBPTT(), 0.7), PlusOmega(0.7), ELMANS),
]


@final
@dataclass(frozen=True)
class Drawn:
    """A method with a seed, whose mean over draws is the gradient."""

    method: AbstractGradient
    layers: int = 2
    copies: int = 1  # of each stream, drawn for apart
    draws: int = 40
    cells: tuple[AbstractCell, ...] = (Elman(), GRU(), LSTM())

    def __str__(self) -> str:
        return str(self.method)


DRAWN = [Drawn(RandomTruncatedBPTT(3.0)), Drawn(UORO(), copies=100), Drawn(KFRTRL(), layers=1, copies=20)]
