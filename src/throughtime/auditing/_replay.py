"""Repeats training steps from the same start with one input changed, and sees what else changes.

What a change of the input does needs no graph: it finds a state that was carried on detached as well as one that was not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ._batches import positions
from ._call import Call
from ._reach import Reach
from ._recorder import Recorder
from ._snapshot import Snapshot


@final
class Replay:
    """Training steps that can be repeated, with all weights held still."""

    def __init__(self, step: Callable[[Any], Any], batches: Sequence[Any], snapshot: Snapshot) -> None:
        self._step, self._batches, self._snapshot = step, batches, snapshot
        self.control = self.run({})
        again = self.run({})
        self.exact = self.control.losses == again.losses and not _differences(self.control, again)

    def run(self, nudge: Mapping[int, Tensor]) -> Recorder:
        """All training steps from the start, with the layers' inputs changed where ``nudge`` says."""
        self._snapshot.restore()
        with Recorder(self._snapshot, measuring=False, nudge=nudge) as seen:
            for batch in self._batches:
                self._step(batch)
                seen.end_step()
        return seen

    def changed(self, seen: Recorder, call: Call, t: int) -> Tensor:
        """(B,) which rows of a call's output at step t are not those of the control."""
        before, after = self.control.calls[call.number].values, seen.calls[call.number].values
        assert before is not None, "a replay keeps every output"
        assert after is not None, "as above"
        return before[t].ne(after[t]).any(1).cpu()

    def layer(self, name: str, step: int) -> list[tuple[Call, int]]:
        """Every step of a layer in one training step."""
        return positions([c for c in self.control.calls if c.name == name and c.step == step and c.graded])


def _differences(one: Recorder, other: Recorder) -> bool:
    if len(one.calls) != len(other.calls):
        return True
    pairs = zip(one.calls, other.calls, strict=True)
    return any(a.values is None or b.values is None or not torch.equal(a.values, b.values) for a, b in pairs)


@final
@dataclass(frozen=True)
class Border:
    """The last input of one training step was changed."""

    rows: int
    crossed: int  # rows whose first output in the next training step changed


@final
@dataclass(frozen=True)
class Resets:
    """The input just before each start of a sequence was changed.

    Attributes:
        starts: that were tried, not counting those before the first step of a batch.
        crossed: starts whose output changed.
        ended_late: of these, the ones whose next output did not.
        early: starts before whose last step the state was already set back.
    """

    starts: int
    crossed: int
    ended_late: int
    early: int


def border(replay: Replay, name: str, step: int) -> Border | None:
    """Does the state of training step ``step`` − 1 reach the next one?"""
    before, after = replay.layer(name, step - 1), replay.layer(name, step)
    if not before or not after:
        return None
    call, t = before[-1]
    seen = replay.run({call.number: _at(call, t)})
    return Border(call.B, int(replay.changed(seen, *after[0]).sum()))


def beyond(replay: Replay, reach: Reach) -> bool | None:
    """Does an input one step beyond the gradient's reach change the last output of the training step?"""
    if reach.reach >= reach.available:
        return None
    steps = replay.layer(reach.name, reach.step)
    if not steps:
        return None
    call, t = steps[-1]
    chain: list[tuple[Call, int]] = []
    one: Call | None = call
    while one is not None:
        chain += [(one, u) for u in reversed(range(t + 1 if one is call else one.T))]
        one = one.previous
    if reach.reach >= len(chain):
        return None
    far, u = chain[reach.reach]
    return bool(replay.changed(replay.run({far.number: _at(far, u)}), call, t).any())


def resets(replay: Replay, name: str, step: int, starts: Tensor) -> Resets | None:
    """Is the state set back where the sequences start? ``starts`` is (T, B)."""
    steps = replay.layer(name, step)
    inside = starts.clone()
    inside[0] = False
    if len(steps) != len(starts) or not inside.any():
        return None
    before = torch.cat((inside[1:], torch.zeros_like(inside[:1])))  # (T, B) True one step before a start
    seen = replay.run(_spread(steps, before))
    out = torch.stack([replay.changed(seen, c, t) for c, t in steps])
    after = torch.cat((out[1:], torch.ones_like(out[:1])))
    crossed = inside & out
    room = torch.cat((~starts[1:], torch.zeros_like(starts[:1])))  # the step after the start is no start itself
    late = crossed & ~after & room
    return Resets(int(inside.sum()), int(crossed.sum()), int(late.sum()), _early(replay, steps, inside, starts))


def _early(replay: Replay, steps: list[tuple[Call, int]], inside: Tensor, starts: Tensor) -> int:
    """How many starts lose the memory of the step before last: x two steps before should still change the output one step before."""
    two = torch.cat((inside[2:], torch.zeros_like(inside[:2]))) & torch.cat((~starts[1:], torch.zeros_like(starts[:1])))
    if not two.any():
        return 0
    seen = replay.run(_spread(steps, two))
    out = torch.stack([replay.changed(seen, c, t) for c, t in steps])
    return int((two[:-1] & ~out[1:]).sum())


def padding(replay: Replay, step: int, padded: Mapping[str, Tensor]) -> tuple[float, float] | None:
    """The losses of a training step, before and after all padding that the layers receive is changed."""
    nudge = {}
    for name, where in padded.items():
        steps = replay.layer(name, step)
        if len(steps) == len(where):
            nudge |= _spread(steps, where)
    if not nudge:
        return None
    seen = replay.run(nudge)
    return sum(_of_step(replay.control, step)), sum(_of_step(seen, step))


def _of_step(seen: Recorder, step: int) -> list[float]:
    backwards = [e.step for e in seen.events if e.kind == "backward"]
    return [loss for loss, of in zip(seen.losses, backwards, strict=True) if of == step]


def _at(call: Call, t: int) -> Tensor:
    where = torch.zeros(call.T, call.B, dtype=torch.bool)
    where[t] = True
    return where


def _spread(steps: list[tuple[Call, int]], where: Tensor) -> dict[int, Tensor]:
    """(T, B) of a training step, cut into the calls of a layer."""
    parts: dict[int, list[Tensor]] = {}
    for (call, _), row in zip(steps, where, strict=True):
        parts.setdefault(call.number, []).append(row)
    return {number: torch.stack(part) for number, part in parts.items()}
