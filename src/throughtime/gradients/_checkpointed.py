"""Full backpropagation through time in less memory: some states are kept, the rest are computed again.

The sequence is cut into units of some steps. A schedule (``_schedules``, ``_budget``, ``_online``) says in which order units are run
forward for their last state alone, run with all that their backward needs, and gone back through; the adjoint

    λ_t = ∂L_t/∂h_t + λ_{t+1} J_{t+1}       (1)
    dL/dθ += λ_t ∂f_t/∂θ                    (2)

is handed from a unit to the one before it. The sum is that of ``FullBPTT``, in another order. Not the states alone but everything of a unit
is made when it is needed and let go: embedded inputs, gates, h, logits, and their gradients.

Units draw their dropout from seeds of their own, so that one that is run again is dropped in the same places.

References: Chen, Xu, Zhang & Guestrin, *Training deep nets with sublinear memory cost*, 2016 (√T). Griewank & Walther 2000 (binomial).
Gruslys et al. 2016 (a budget of memory).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isqrt
from typing import final

import torch
from torch import Tensor

from .. import _check
from .._check import InputError
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ..nn import Rows
from ._base import AbstractGradient, Carry, Outcome, carried_state, entering
from .checkpointing._online import OnlineCheckpoints
from .checkpointing._plan import Plan, kept_every, parse_bytes, with_snapshots, within
from .checkpointing._schedules import Action, Advance, Free, Keep, Record, Restore, Reverse
from .reverse._piece import Piece


@final
@dataclass(frozen=True)
class CheckpointedBPTT(AbstractGradient):
    """The exact gradient of the batch's loss in a part of the memory, for about one more forward pass. The state is carried on, detached.

    Give one of ``every``, ``snapshots`` and ``budget``; without any, every ⌈√T⌉-th state is kept.

    Args:
        every: keep every so manieth state, and run each stretch between two of them again.
        snapshots: the most states kept at once, the first one included; where that is few, stretches are run again several times, as
            seldom as can be (binomial checkpointing).
        budget: bytes that all that is held may take, as a number or as "64MB" (kB MB GB, KiB MiB GiB), with as little run again as can be.
            The weights, their gradients and the batch are there in any case and are not counted.
        unit: with ``snapshots``: steps that are run in one go. None: about 256 rows (steps × streams), so that a call's own cost does not
            show. 1 is the schedule of the papers.
        clip_adjoint: as in ``FullBPTT``.

    Raises:
        InputError: more than one of the three; a number below 1; a budget that is no number of bytes, or ``unit`` without ``snapshots``.

    >>> from throughtime import LanguageModel
    >>> print(CheckpointedBPTT(every=32).plan(1000, 16, LanguageModel(65, hidden_size=128)))
    1,000 steps in 32 units of 32: at most 31 states and 1 recorded unit are held at once, ... MB in all;
    992 extra forward steps (0.99 a step)
    """

    every: int | None = None
    snapshots: int | None = None
    budget: int | str | None = None
    unit: int | None = None
    clip_adjoint: float | None = None
    agrees = "exactly"

    def __post_init__(self) -> None:
        chosen = {name: value for name in ("every", "snapshots", "budget") if (value := getattr(self, name)) is not None}
        if len(chosen) > 1:
            raise InputError(f"{' and '.join(chosen)} are given together; expected one of every, snapshots, budget. Leave out the others.")
        if self.unit is not None and self.snapshots is None:
            raise InputError(
                "unit is given without snapshots; expected them together. Leave unit out: every and budget choose it themselves."
            )
        for name, value in (("every", self.every), ("snapshots", self.snapshots), ("unit", self.unit)):
            if value is not None:
                _check.positive(name, value)
        if self.budget is not None:
            parse_bytes(self.budget)
        if self.clip_adjoint is not None:
            _check.above_zero("clip_adjoint", self.clip_adjoint, remedy="None switches it off.")

    def plan(self, T: int, B: int, model: AbstractModel) -> Plan:
        """What a batch of T steps of B streams will hold and cost.

        Raises:
            InputError: a budget under the least that would do, which the message says.
        """
        _check.positive("T", T)
        _check.positive("B", B)
        if self.budget is not None:
            return within(parse_bytes(self.budget), T, B, model)
        if self.snapshots is not None:
            return with_snapshots(self.snapshots, self.unit, T, B, model)
        return kept_every(min(T, self.every or 1 + isqrt(T - 1)), T, B, model)  # ⌈√T⌉

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        plan = self.plan(batch.T, batch.B, model)
        start = entering(model, carried_state(carry, repr(self)), batch.fresh, batch.B)
        walk = _Walk(model, _Units.of(model, replace(batch, fresh=None), plan.unit), start, self.clip_adjoint, plan.snapshots)
        walk.scale = model.scale(batch)
        for action in plan.schedule.actions():
            walk.do(action)
        return walk.outcome()

    def accumulate_stream(self, model: AbstractModel, batches: Iterable[Batch], carry: Carry | State | None = None) -> Outcome:
        """The same over one sequence that comes in pieces, of which nobody knows how many there will be.

        Each piece is a unit. At most ``snapshots`` states are held, chosen as the pieces come (Stumm & Walther 2010, Wang & Moin 2009); the
        pieces themselves are kept as they are given, for they are gone through again. The loss, and the mean in it, are over all of them.

        Args:
            model: its three stations are used one by one.
            batches: the pieces in order. ``fresh`` in a later piece marks streams that start anew there, and no gradient crosses.
            carry: as in ``accumulate``.

        Raises:
            InputError: no piece, pieces of different B, or a method without ``snapshots``.
        """
        if self.snapshots is None:
            raise InputError(
                f"{self} is given a stream; expected CheckpointedBPTT(snapshots=...): without the length there is no other plan."
            )
        pieces: list[Batch] = []
        checkpoints, walk = OnlineCheckpoints(self.snapshots), None
        for batch in batches:
            if walk is None:
                start = entering(model, carried_state(carry, repr(self)), batch.fresh, batch.B)
                walk = _Walk(model, _Units(model, pieces.__getitem__), start, self.clip_adjoint)
                batch = replace(batch, fresh=None)
            elif batch.B != pieces[0].B:
                raise InputError(f"piece {len(pieces)} of the stream has B = {batch.B} and the first one {pieces[0].B}; expected the same.")
            pieces.append(batch)
            for action in checkpoints.arrive():
                walk.do(action)
        if walk is None:
            raise InputError("the stream has no pieces; expected one batch or more.")
        walk.scale = model.scale(*pieces)
        for action in checkpoints.finish():
            walk.do(action)
        return walk.outcome()


class _Units:
    """What unit i reads.

    Args:
        model: the model.
        batch: its steps; ``fresh`` where streams start anew before it.
        rows: the inputs of all units, in place of each one's own, as rows of a table.
        unit: steps a unit, where there are ``rows``.
    """

    def __init__(self, model: AbstractModel, batch: Callable[[int], Batch], rows: Rows | None = None, unit: int = 1) -> None:
        self.model, self.batch, self._rows, self._unit = model, batch, rows, unit
        self._product = None if rows is None else rows.product
        if rows is not None and self._product is not None:
            self._rows = replace(rows, product=self._product.detach().requires_grad_(self._product.requires_grad))

    @classmethod
    def of(cls, model: AbstractModel, batch: Batch, unit: int) -> "_Units":
        """A batch in units. Where its inputs are rows of a table, the table meets the first layer's weights once, not once a unit."""
        steps = lambda i: batch.steps(i * unit, min((i + 1) * unit, batch.T))
        rows = model.enter(batch) if model.enters_rows(batch.inputs[:unit]) else None
        return cls(model, steps, model.recurrence.with_product(rows) if isinstance(rows, Rows) else None, unit)

    def enter(self, i: int) -> Tensor | Rows:
        """Station ② for unit i."""
        if self._rows is None:
            return self.model.enter(self.batch(i))
        return replace(self._rows, index=self._rows.index[i * self._unit : (i + 1) * self._unit])

    def finish(self) -> None:
        """All units have gone back: hand the gradient of what they share on to what made it."""
        if self._rows is not None and self._rows.product is not None and self._rows.product.grad is not None:
            assert self._product is not None, "the leaf was cut from it"
            self._product.backward(self._rows.product.grad)


class _Walk:
    """Does what a schedule says.

    Args:
        model: the model.
        units: what they read.
        start: state 0, through which the gradient goes on to what made it.
        clip_adjoint: as in ``FullBPTT``.
        slots: how many states will be held, where that is known.
    """

    def __init__(self, model: AbstractModel, units: _Units, start: State, clip_adjoint: float | None, slots: int = 0) -> None:
        self.model, self.units, self.start, self.clip_adjoint = model, units, start, clip_adjoint
        self.scale = 1.0
        self._here = _detach(start)
        self._kept: dict[int, State] = {}
        # made before anything else: small and long-lived, they would split the places that every unit's large arrays are put in again
        self._slots = [tuple(torch.empty_like(s) for s in self._here) for _ in range(slots)]
        self._recorded: dict[int, Piece] = {}
        self._last: State | None = None  # after the last unit, which is the first to be reversed
        self._adjoint: State | None = None  # (1), of the state that leaves the unit to be reversed next
        self._loss: Tensor | None = None
        self._seed = int(torch.randint(2**62, ()))

    def do(self, action: Action) -> None:
        """Take one action."""
        match action:
            case Keep(i):
                slot = self._slots.pop() if self._slots else tuple(torch.empty_like(s) for s in self._here)
                self._kept[i] = tuple(old.copy_(new) for old, new in zip(slot, self._here, strict=True))
            case Free(i):
                self._slots.append(self._kept.pop(i))
            case Restore(i):
                self._here = self._kept[i] if i in self._kept else _detach(self._recorded[i - 1].leaving)
            case Advance(i, j):
                with torch.no_grad():
                    for k in range(i, j):
                        self._here = self._run(k).leaving
            case Record(i):
                self._recorded[i] = self._run(i)
                self._here = _detach(self._recorded[i].leaving)
            case Reverse(i):
                self._reverse(i)

    def outcome(self) -> Outcome:
        """All units are reversed: hand the adjoint of state 0 on."""
        assert self._loss is not None, "a schedule reverses one unit or more"
        assert self._adjoint is not None, "as above"
        assert self._last is not None, "as above"
        ends = [(s, ds) for s, ds in zip(self.start, self._adjoint, strict=True) if s.requires_grad]
        if ends:
            torch.autograd.backward([s for s, _ in ends], [ds for _, ds in ends])
        self.units.finish()
        return Outcome(self._loss, Carry(self._last))

    def _run(self, i: int) -> Piece:
        with _seeded(self._seed + 2 * i, self._here[0].device):
            return Piece(self.model, self.units.enter(i), self._here, self.units.batch(i).fresh, clip_adjoint=self.clip_adjoint)

    def _reverse(self, i: int) -> None:
        piece = self._recorded.pop(i)
        self._last = self._last or _detach(piece.leaving)
        hs = piece.hs.detach().requires_grad_()
        with _seeded(self._seed + 2 * i + 1, hs.device):
            loss = self.model.losses(hs, self.units.batch(i)).sum() * self.scale
        loss.backward()  # the head's own gradient, and ∂L_t/∂h_t
        self._adjoint = piece.back(hs.grad, self._adjoint, again=False)  # (1), (2)
        piece.finish()
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Chance from a seed of its own; afterwards the global generators go on where they were."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    before = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


def _detach(state: State) -> State:
    return tuple(s.detach() for s in state)
