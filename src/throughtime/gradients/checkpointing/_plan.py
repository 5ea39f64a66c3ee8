"""The plan of a checkpointed pass, made before it runs: what it holds and recomputes; and the choice of segments within a budget.

T time · B batch · I input · G gates · H hidden · V outputs · L layers · S states.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import NamedTuple, final

import torch

from ..._check import InputError
from ...kernels import memory_use
from ...models import AbstractModel, Embedding, Vectors
from ._budget import Budgeted
from ._schedules import AbstractSchedule, Binomial, totals

_OWN = 256  # rows (steps × streams): running so many forward costs about what a segment's calls cost by themselves
_ROWS = 512  # of a segment, where nothing else decides: a call's own cost hardly shows
_FINEST = 64  # segments that the table of a budget is made for: what finer ones could spare is less than a 64th of the forward pass
_PLACES = 2048  # the finest division of a budget


class Footprint(NamedTuple):
    """The bytes that states and segments take, for one length of segment.

    The weights, their gradients and the batch are not counted, since every method holds them.
    """

    state: int  # a state: S (L, B, H)
    held: int  # a recorded segment: its vectors in, its hs, and what the kernels keep
    working: int  # the segment that is being reversed: the same, its logits, and the gradients of both

    @classmethod
    def of(cls, model: AbstractModel, unit: int, B: int) -> "Footprint":
        """For segments of ``unit`` steps of B streams."""
        stack, like, rows = model.recurrence, model.head.weight, unit * B
        H, L, dropping = stack.hidden_size, stack.num_layers, model.training
        kept, backward = memory_use(stack.cell, like, (unit, B, H), stack.memory)
        between = 2 * H if dropping and stack.dropout else 0
        entered = _entered(model, unit, B)
        held = rows * (entered + L * H + (L - 1) * between) + L * kept
        head = rows * (4 * H if dropping and model.dropout.p else 2 * H) + model.head.memory_use(rows)
        gradients = rows * (max(entered, H) + 2 * H) + backward
        size = like.element_size()
        return cls(stack.cell.states * L * B * H * size, held * size, (held + max(head, gradients) + _table(model, unit, B)) * size)

    def at_least(self) -> int:
        """The fewest bytes that reverse a chain: the first state, the current one, and one active segment."""
        return 2 * self.state + self.working


def _entered(model: AbstractModel, unit: int, B: int) -> int:
    """How many numbers the first layer's input has per step and stream."""
    width = model.recurrence.input_size
    if _enters_rows(model, unit, B):
        return model.recurrence.cell.gates * model.recurrence.hidden_size
    if model.training and model.input_dropout.p:
        return 3 * width
    return 0 if isinstance(model.input, Vectors) else width


def _table(model: AbstractModel, unit: int, B: int) -> int:
    """How many numbers the table's product with the first layer's weights has, with its gradient, the running sum, and the addend."""
    if not isinstance(model.input, Embedding) or not _enters_rows(model, unit, B):
        return 0
    return 4 * model.input.weight.shape[0] * model.recurrence.cell.gates * model.recurrence.hidden_size


def _enters_rows(model: AbstractModel, unit: int, B: int) -> bool:
    return model.enters_rows(torch.empty(unit, B, dtype=torch.long, device="meta"))


@final
@dataclass(frozen=True)
class Plan:
    """What a checkpointed pass over one batch holds and recomputes, from ``CheckpointedBPTT.plan``. ``str`` says it in two lines.

    Attributes:
        T: steps of the batch.
        unit: steps in a segment; the last one may be shorter.
        schedule: the order of the actions.
        snapshots: the most states held at once.
        recorded: the most recorded segments held at once.
        stored: the peak of the bytes held, including the active segment and its gradients, without the weights, their gradients and
            the batch.
        extra_steps: forward steps beyond the T of plain backpropagation.

    >>> import throughtime as tt
    >>> plan = tt.gradients.CheckpointedBPTT(snapshots=4, unit=10).plan(1000, 16, tt.LanguageModel(65, hidden_size=128))
    >>> plan.snapshots, plan.extra_steps
    (4, 3740)
    """

    T: int
    unit: int
    schedule: AbstractSchedule
    snapshots: int
    recorded: int
    stored: int
    extra_steps: int

    @classmethod
    def of(cls, T: int, unit: int, schedule: AbstractSchedule, footprint: Footprint) -> "Plan":
        """Count the actions of a schedule."""
        state, held, working = footprint
        found = _totals(schedule, state, held)
        peak = found.peak + state + working - held  # the current state, and the gradients of the recorded segment at work
        return cls(T, unit, schedule, found.kept, found.recorded, peak, found.advances * unit)

    def __str__(self) -> str:
        units, snapshots = _count(ceil(self.T / self.unit), "segment"), _count(self.snapshots, "state")
        recorded, stored = _count(self.recorded, "recorded segment"), bytes_text(self.stored)
        return (
            f"{self.T:,} steps in {units} of {self.unit:,}: at most {snapshots} and {recorded} are held at once, {stored} in all; "
            f"{self.extra_steps:,} extra forward steps ({self.extra_steps / self.T:.2f} a step)"
        )


@lru_cache(maxsize=64)
def _totals(schedule: AbstractSchedule, state: int, recorded: int):
    return totals(schedule.actions(), state, recorded)


def kept_every(every: int, T: int, B: int, model: AbstractModel) -> Plan:
    """Every ``every``-th state is kept: one extra forward pass over all but the last segment."""
    units = ceil(T / every)
    return Plan.of(T, every, Binomial(units, max(1, units - 1)), Footprint.of(model, every, B))


def with_snapshots(slots: int, unit: int | None, T: int, B: int, model: AbstractModel) -> Plan:
    """Binomial, in segments of ``unit`` steps."""
    unit = min(T, ceil(_ROWS / B) if unit is None else unit)
    return Plan.of(T, unit, Binomial(ceil(T / unit), slots), Footprint.of(model, unit, B))


def within(budget: int, T: int, B: int, model: AbstractModel) -> Plan:
    """The plan with the fewest extra steps that holds at most ``budget`` bytes.

    Raises:
        InputError: a budget that is too small even for single steps; the message gives the least.
    """
    least = Footprint.of(model, 1, B).at_least()
    if budget < least:
        raise InputError(
            f"the budget is {bytes_text(budget)}; expected at least {bytes_text(least)}, which for B = {B} hold the first state, the "
            f"running one and one step with its gradients. Give budget={least} or more, or lower B."
        )
    best, cost = None, float("inf")
    for units in _divisions(T):
        if units * _OWN >= cost:
            break  # more segments cost more than all that they could spare
        unit = ceil(T / units)
        footprint = Footprint.of(model, unit, B)
        if footprint.at_least() <= budget:
            schedule = _schedule(ceil(T / unit), budget, footprint)
            found = schedule.advances * unit * B + units * _OWN
            best, cost = ((unit, schedule, footprint), found) if found < cost else (best, cost)
    assert best is not None, "units of one step are among them, and do"
    return Plan.of(T, *best)


def _divisions(T: int) -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12, … and T: numbers of segments."""
    power = 1
    while power < T:
        yield power
        if 1 < power < 2 * T / 3:
            yield 3 * power // 2
        power *= 2
    yield T


def _schedule(units: int, budget: int, footprint: Footprint) -> AbstractSchedule:
    """The schedule for the bytes beyond the least. It holds recorded segments if there is room for one."""
    free = budget - footprint.at_least()
    if units > _FINEST or free < footprint.held:
        return Binomial(units, 1 + min(units, free // footprint.state))
    place = max(footprint.state, ceil(free / _PLACES))
    return Budgeted(units, free // place, max(1, ceil(footprint.held / place)))


_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_bytes(budget: int | str) -> int:
    """Bytes, as a number or with a unit: 64MB, 1.5 GiB.

    Raises:
        InputError: neither, or nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(b|[kmg]i?b)?\s*", str(budget), re.IGNORECASE)
    unit = "" if found is None or found[2] is None else found[2].lower().removeprefix("b")
    if found is None or float(found[1]) * _UNITS[unit] < 1:
        raise InputError(f"budget is {budget!r}; expected bytes, as a number or with kB, MB, GB, KiB, MiB or GiB after it, such as 64MB.")
    return int(float(found[1]) * _UNITS[unit])


def bytes_text(n: int) -> str:
    """1,234,567 as 1.2 MB."""
    for name, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.1f} {name}"
    return f"{n} bytes"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
