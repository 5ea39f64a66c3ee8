"""Full backpropagation through time in less memory: some states are kept, and the rest are recomputed.

The sequence is cut into segments. A schedule (``_schedules``, ``_budget``, ``_online``) gives the order in which segments are run
forward for their last state only, run with everything that their backward needs, and reversed. The adjoint

    λ_t = ∂L_t/∂h_t + λ_{t+1} J_{t+1}       (1)
    dL/dθ += λ_t ∂f_t/∂θ                    (2)

is passed from a segment to the one before it. The sum is that of ``FullBPTT``, in another order. Everything in a segment is made when it
is needed and dropped afterwards: embedded inputs, gates, h, logits, and their gradients.

Each segment draws its dropout from a seed of its own, so that a second run of it has the same dropout.

References: Chen, Xu, Zhang & Guestrin, *Training deep nets with sublinear memory cost*, 2016 (√T). Griewank & Walther 2000 (binomial).
Gruslys et al. 2016 (a budget of memory).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt
from typing import Literal, final

import torch
from torch import Tensor

from .. import _check
from .._check import InputError
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel
from ..nn import Padded, Rows, TableProduct, add_to_grads
from ._base import AbstractGradient, Carry, Outcome, carried_state, starting_state
from ._stations import Segment, run, stack_of
from .checkpointing._online import OnlineCheckpoints
from .checkpointing._plan import Plan, kept_every, parse_bytes, with_snapshots, within
from .checkpointing._schedules import Action, Advance, Free, Keep, Record, Restore, Reverse


@final
@dataclass(frozen=True)
class CheckpointedBPTT(AbstractGradient):
    """The exact gradient of the batch's loss in less memory, for about one more forward pass. The state is carried on, detached.

    Give one of ``every``, ``snapshots`` and ``budget``. Without any, every ⌈√T⌉-th state is kept.

    Args:
        every: k; keeps every k-th state and recomputes the segment of k steps between two of them.
        snapshots: the most states kept at once, including the first. With few of them, segments are recomputed several times, as rarely
            as possible (binomial checkpointing).
        budget: the most bytes held at once, as a number or as "64MB" (kB MB GB, KiB MiB GiB). The plan with the fewest recomputed steps
            within the budget is used. The weights, their gradients and the batch are not counted.
        unit: steps in a segment, with ``snapshots``. None: about 512 rows (steps × streams), so that the overhead of a call is
            small. 1 is the schedule of the papers.
        clip_adjoint: as in ``FullBPTT``.

    Raises:
        InputError: more than one of the three; a number below 1; a budget that is not a number of bytes; ``unit`` without ``snapshots``.

    >>> from throughtime import LanguageModel
    >>> print(CheckpointedBPTT(every=32).plan(1000, 16, LanguageModel(65, hidden_size=128)))
    1,000 steps in 32 segments of 32: at most 31 states and 1 recorded segment are held at once, ... MB in all;
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
        """The plan for a batch of T steps of B streams: what it holds and what it recomputes.

        Raises:
            InputError: a budget that is too small; the message gives the least.
            NotImplementedError: a recurrence that is not a stack of cells, whose memory is unknown.
        """
        stack_of(model, repr(self))
        _check.positive("T", T)
        _check.positive("B", B)
        if self.budget is not None:
            return within(parse_bytes(self.budget), T, B, model)
        if self.snapshots is not None:
            return with_snapshots(self.snapshots, self.unit, T, B, model)
        return kept_every(min(T, self.every or 1 + isqrt(T - 1)), T, B, model)  # ⌈√T⌉

    def accumulate(self, model: AbstractModel, batch: Batch, carry: Carry | State | None = None) -> Outcome:
        plan = self.plan(batch.T, batch.B, model)
        start = starting_state(model, carried_state(carry, repr(self)), batch.fresh, batch.B)
        inputs = _Inputs.of(model, replace(batch, fresh=None), plan.unit)
        reversal = _Reversal(model, inputs, start, self.clip_adjoint, plan.snapshots)
        reversal.scale = model.scale(batch)
        for action in plan.schedule.actions():
            reversal.do(action)
        return reversal.outcome()

    def accumulate_stream(self, model: AbstractModel, batches: Iterable[Batch], carry: Carry | State | None = None) -> Outcome:
        """As ``accumulate``, for one sequence that arrives batch by batch and whose length is not known in advance.

        Each batch is a segment. At most ``snapshots`` states are held, chosen as the batches arrive (Stumm & Walther 2010, Wang & Moin
        2009). The batches themselves are kept, since they are read again. The loss and its mean are over all batches.

        Args:
            model: the method uses its three stations one by one.
            batches: the segments in order. ``fresh`` in a later one marks streams that start anew there; no gradient crosses.
            carry: as in ``accumulate``.

        Raises:
            InputError: no batch, batches of different B, or a method without ``snapshots``.
        """
        if self.snapshots is None:
            raise InputError(
                f"{self} is given a stream; expected CheckpointedBPTT(snapshots=...): without the length there is no other plan."
            )
        given: list[Batch] = []
        checkpoints, reversal = OnlineCheckpoints(self.snapshots), None
        for batch in batches:
            if reversal is None:
                start = starting_state(model, carried_state(carry, repr(self)), batch.fresh, batch.B)
                reversal = _Reversal(model, _Inputs(model, given.__getitem__), start, self.clip_adjoint)
                batch = replace(batch, fresh=None)
            elif batch.B != given[0].B:
                raise InputError(f"batch {len(given)} of the stream has B = {batch.B} and the first one {given[0].B}; expected the same.")
            given.append(batch)
            for action in checkpoints.arrive():
                reversal.do(action)
        if reversal is None:
            raise InputError("the stream has no batches; expected one or more.")
        reversal.scale = model.scale(*given)
        for action in checkpoints.finish():
            reversal.do(action)
        return reversal.outcome()


class _Inputs:
    """The inputs of the segments.

    Args:
        model: the model.
        batch: gives segment i, with ``fresh`` where streams start anew before it.
        product: the first layer's product with the embedding's table, shared by all segments; None: each segment has its own input.
    """

    def __init__(self, model: AbstractModel, batch: Callable[[int], Batch], product: TableProduct | None = None) -> None:
        self.model, self.batch, self.product = model, batch, product

    @classmethod
    def of(cls, model: AbstractModel, batch: Batch, steps: int) -> "_Inputs":
        """A batch in segments of ``steps`` steps. If its inputs are rows of a table, the table is multiplied by W once."""
        segment = lru_cache(2)(lambda i: batch.steps(i * steps, min((i + 1) * steps, batch.T)))  # each is asked for several times in a row
        first = model.enter(segment(0)) if model.enters_rows(batch.inputs[:steps]) else None
        if isinstance(first, Rows):
            return cls(model, segment, TableProduct(model.recurrence.stored_parameters_of(0), first.table))
        return cls(model, segment)

    def enter(self, i: int) -> Tensor | Rows | Padded:
        """Station ② for segment i."""
        if self.product is None:
            return self.model.enter(self.batch(i))
        return Rows(self.product.table, self.batch(i).inputs, self.product)

    def finish(self) -> None:
        """After all segments are reversed: backpropagate the gradient of the shared product."""
        if self.product is not None:
            self.product.finish()


class _Reversal:
    """Carries out the actions of a schedule.

    Args:
        model: the model.
        inputs: the inputs of the segments.
        start: state 0, with the graph of its parameters.
        clip_adjoint: as in ``FullBPTT``.
        slots: how many states will be held, if known.
    """

    def __init__(self, model: AbstractModel, inputs: _Inputs, start: State, clip_adjoint: float | None, slots: int = 0) -> None:
        self.model, self.inputs, self.start, self.clip_adjoint = model, inputs, start, clip_adjoint
        self.scale = 1.0
        self._here = _detach(start)
        self._kept: dict[int, State] = {}
        # Allocated first: made later, these small long-lived tensors would split the memory that every segment's large arrays reuse.
        self._slots = [tuple(torch.empty_like(s) for s in self._here) for _ in range(slots)]
        self._recorded: dict[int, Segment] = {}
        self._last: State | None = None  # after the last segment, which is the first to be reversed
        self._adjoint: State | None = None  # (1), of the state that leaves the segment to be reversed next
        self._losses: list[Tensor] = []
        self._seed = int(torch.randint(2**62, ()))

    def do(self, action: Action) -> None:
        """Carry out one action."""
        match action:
            case Keep(i):
                slot = self._slots.pop() if self._slots else tuple(torch.empty_like(s) for s in self._here)
                self._kept[i] = tuple(old.copy_(new) for old, new in zip(slot, self._here, strict=True))
            case Free(i):
                self._slots.append(self._kept.pop(i))
            case Restore(i):
                self._here = self._kept[i] if i in self._kept else self._recorded[i - 1].last
            case Advance(i, j):
                for k in range(i, j):
                    self._here = self._run(k, keep="none").last
            case Record(i):
                self._recorded[i] = self._run(i)
                self._here = self._recorded[i].last
            case Reverse(i):
                self._reverse(i)

    def outcome(self) -> Outcome:
        """After all segments are reversed: backpropagate the adjoint of state 0."""
        assert self._adjoint is not None, "a schedule reverses one segment or more"
        assert self._last is not None, "as above"
        add_to_grads(self.start, self._adjoint)
        self.inputs.finish()
        return Outcome(torch.stack(self._losses).sum(), Carry(self._last))

    def _run(self, i: int, *, keep: Literal["none"] | None = None) -> Segment:
        fresh = self.inputs.batch(i).fresh
        with self._drawing(2 * i, always=fresh is not None):  # an initial state may be random in any mode
            return run(self.model, self.inputs.enter(i), self._here, fresh, clip=self.clip_adjoint, keep=keep)

    def _reverse(self, i: int) -> None:
        segment = self._recorded.pop(i)
        self._last = self._last or segment.last
        with self._drawing(2 * i + 1):
            loss, dhs = self.model.loss_and_adjoint(segment.hs, self.inputs.batch(i), scale=self.scale)
        self._adjoint = segment.backward(dhs, self._adjoint)  # (1), (2)
        segment.finish()
        self._losses.append(loss)

    def _drawing(self, stream: int, *, always: bool = False) -> AbstractContextManager[None]:
        """A seed of its own for a segment's random numbers. Without ``always`` it is set only in training."""
        return _seeded(self._seed + stream, self._here[0].device) if always or self.model.training else nullcontext()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators; restore their states afterwards."""
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
