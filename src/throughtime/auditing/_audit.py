"""The public call: watch a few training steps, repeat some of them with other inputs, put everything back, and say what was found."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _check
from .._check import InputError
from . import _replay as replay, _rules as rules
from ._batches import Reader, are_shuffled, goes_on, lengths_of, padding_mask, starts_of
from ._call import Call
from ._finding import Finding
from ._recorder import Recorder
from ._replay import Border, Replay
from ._report import Audit, Layer
from ._snapshot import Snapshot

LAYERS = 4  # that inputs are changed in; the others are measured by the graph alone


def audit(
    training_step: Callable[[Any], Any],
    batches: Iterable[Any],
    *,
    steps: int = 4,
    lengths: Reader | None = None,
    starts: Reader | None = None,
    continues: bool | None = None,
    window: int | None = None,
) -> Audit:
    """Watch a training loop of your own for a few steps, and report what it does with its recurrent layers.

    The step may use any model with layers or cells of ``torch.nn`` or of this package, in one call over all steps or step by step. It is
    run as it is; then the same steps are run again from the same start with single inputs changed. Afterwards models, optimisers, random
    generators and the variables of ``training_step`` are as they were. An iterator in ``batches`` has been advanced, and what the step
    writes to files or draws from iterators of its own is not undone.

    Args:
        training_step: called with a batch; does forward, backward and the optimiser's step, as in training, for one batch.
        batches: the first few are used. Tensors, tuples, dictionaries and dataclasses of tensors are understood.
        steps: training steps to watch.
        lengths: from a batch to (B,), the steps of each sequence before its padding. None: found in the batch if it is unmistakable.
        starts: from a batch to (T, B), (B, T) or (B,) (before the first step), True at the first step of a sequence. None: an entry that
            is called episode_starts, is_init, is_first, starts or fresh.
        continues: whether each batch goes on where the one before it ended, row by row. None: a DataLoader that shuffles says no; else
            it is read off the data, if they tell.
        window: how many steps the gradient is meant to go back, if that is to be checked.

    Raises:
        InputError: no batch, or an answer of ``lengths`` or ``starts`` that does not fit the batch.

    >>> import throughtime as tt
    >>> layer = torch.nn.GRU(3, 5)
    >>> optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    >>> def training_step(xs):
    ...     optimizer.zero_grad()
    ...     loss = layer(xs)[0].square().mean()
    ...     torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.2)
    ...     loss.backward()
    ...     optimizer.step()
    >>> tt.audit(training_step, torch.randn(4, 7, 2, 3)).kinds()
    ['clip before backward']
    """
    _check.positive("steps", steps)
    if continues is None and are_shuffled(batches):
        continues = False
    used = list(itertools.islice(batches, steps))
    if not used:
        raise InputError("batches is empty; expected at least one batch. Pass a list of a few batches, or a DataLoader.")
    snapshot = Snapshot(training_step)
    try:
        seen, error = _watch(training_step, used, snapshot)
        again = None if error else Replay(training_step, used, snapshot)
        return _judge(seen, error, again if again and again.exact else None, used, _Said(lengths, starts, continues, window))
    finally:
        snapshot.restore()


class _Said:
    """What the caller has said of the loop."""

    def __init__(self, lengths: Reader | None, starts: Reader | None, continues: bool | None, window: int | None) -> None:
        self.lengths, self.starts, self.continues, self.window = lengths, starts, continues, window


def _watch(step: Callable[[Any], Any], batches: Sequence[Any], snapshot: Snapshot) -> tuple[Recorder, str]:
    """Run the training steps; what torch says of their graph, if it stops them."""
    with Recorder(snapshot, measuring=True) as seen:
        for batch in batches:
            try:
                step(batch)
            except RuntimeError as error:
                if not any(text in str(error) for text in rules.GRAPH_ERRORS):
                    raise
                return seen, str(error)
            seen.end_step()
    return seen, ""


def _judge(seen: Recorder, error: str, again: Replay | None, batches: Sequence[Any], said: _Said) -> Audit:
    names = list(dict.fromkeys(c.name for c in seen.calls if c.graded))
    step = max((c.step for c in seen.calls if c.graded), default=0)
    found: list[Finding] = [*_notes(names, seen, error, again)]
    found += rules.clipping(seen.events)
    found += rules.graph(seen.reaches, seen.events, error, said.window)
    found += rules.cut(seen.reaches, seen.calls, said.window)
    tables, lengths = [], {}
    if names:
        first = _calls(seen, names[0], step)
        continues = goes_on(batches, sum(c.T for c in first), first[0].B) if said.continues is None else said.continues
        kinds = {name: _starts_from(seen, name) for name in names}
        found += rules.carried(kinds, _borders(again, names, step), continues)
        lengths = {name: _lengths(_calls(seen, name, step), batches[step], said) for name in names}
        losses = _padding(again, step, lengths, seen)
        for name in names:
            found += _of_layer(seen, again, name, step, batches[step], said)
            found += rules.padding(_calls(seen, name, step), lengths[name], losses)
            tables.append(_row(seen, again, name, step, lengths[name], kinds[name]))
    order = ("error", "warning", "note")
    findings = sorted(found, key=lambda f: order.index(f.severity))
    return Audit(tuple(findings), tuple(tables), seen.step, again is not None)


def _notes(names: list[str], seen: Recorder, error: str, again: Replay | None) -> list[Finding]:
    """What could not be looked at."""
    notes = []
    if not names:
        notes.append(Finding("no recurrent layer", "note", "The training steps called no layer or cell of torch.nn with a gradient."))
    if not any(e.kind == "backward" for e in seen.events) and not error:
        notes.append(Finding("no backward pass", "note", "The training steps never called backward: the gradient's reach is unknown."))
    if again is None and not error:
        says = "The steps give other numbers when they are run again from the same start, so inputs were not changed to see what follows."
        notes.append(Finding("not repeatable", "note", says))
    return notes


def _calls(seen: Recorder, name: str, step: int) -> list[Call]:
    return [c for c in seen.calls if c.name == name and c.step == step and c.graded]


def _starts_from(seen: Recorder, name: str) -> list[str]:
    """What each training step's first state was."""
    steps = sorted({c.step for c in seen.calls if c.name == name and c.graded})
    return [_kind(_calls(seen, name, step)[0]) for step in steps]


def _kind(call: Call) -> str:
    if call.start is None or not bool(call.start.ne(0).any()):
        return "zeros"
    return "carried" if bool(call.carried.any()) or (call.attached and call.previous is not None) else "given"


def _borders(again: Replay | None, names: list[str], step: int) -> dict[str, Border]:
    if again is None or step < 1:
        return {}
    found = {name: replay.border(again, name, step) for name in names[:LAYERS]}
    return {name: one for name, one in found.items() if one is not None}


def _lengths(calls: list[Call], batch: Any, said: _Said) -> Tensor | None:
    """(B,) the lengths of the last batch, unless the layer knows them itself."""
    if not calls or len({c.B for c in calls}) > 1 or any(c.own_lengths is not None for c in calls):
        return None
    return lengths_of(batch, torch.cat([c.xs() for c in calls]), said.lengths)


def _padding(again: Replay | None, step: int, lengths: dict[str, Tensor | None], seen: Recorder) -> tuple[float, float] | None:
    """The loss with other padding."""
    padded = {n: padding_mask(k, sum(c.T for c in _calls(seen, n, step))) for n, k in lengths.items() if k is not None and (k >= 0).all()}
    return replay.padding(again, step, padded) if again is not None and padded else None


def _of_layer(seen: Recorder, again: Replay | None, name: str, step: int, batch: Any, said: _Said) -> Iterable[Finding]:
    """What happens where sequences start."""
    calls = _calls(seen, name, step)
    if len({c.B for c in calls}) > 1 or getattr(calls[0].module, "bidirectional", False):
        return []
    starts = starts_of(batch, sum(c.T for c in calls), calls[0].B, said.starts)
    if starts is None:
        return []
    tried = None if again is None else replay.resets(again, name, step, starts)
    return rules.resetting(name, tried, (int((starts[0] & calls[0].carried).sum()), int(starts[0].sum())))


def _row(seen: Recorder, again: Replay | None, name: str, step: int, lengths: Tensor | None, kinds: list[str]) -> Layer:
    calls = _calls(seen, name, step)
    mine = [r for r in seen.reaches if r.name == name]
    reach = (min(r.reach for r in mine), max(r.reach for r in mine)) if mine else None
    beyond = None if again is None or not mine else replay.beyond(again, mine[-1])
    T = sum(c.T for c in calls)
    share = None if lengths is None else float(padding_mask(lengths, T).double().mean())
    kind = type(calls[0].module).__name__
    available = max((r.available for r in mine), default=None)
    return Layer(name, kind, len(calls), calls[-1].T, calls[-1].B, ", ".join(dict.fromkeys(kinds)), reach, available, beyond, share)
