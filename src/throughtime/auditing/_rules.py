"""What the numbers of an audit mean: one function a fault, each of which returns its findings."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from ._batches import padding_mask
from ._call import Call
from ._finding import Finding
from ._reach import Reach
from ._recorder import Event
from ._replay import Border, Resets

WASTEFUL = 0.5  # share of padding from which it is an alarm
GRAPH_ERRORS = ("backward through the graph a second time", "modified by an inplace operation")


def clipping(events: Sequence[Event]) -> Iterator[Finding]:
    """Clipping works on the gradient that the optimiser takes if it comes after the last backward pass and before the step."""
    seen: dict[str, list[Event]] = {}
    for i, clip in enumerate(events):
        if clip.kind == "clip" and (where := _misplaced(events, i)):
            seen.setdefault(where, []).append(clip)
    clips = sum(e.kind == "clip" for e in events)
    steps = [e.numbers["norm"] for e in events if e.kind == "step"]
    for where, found in seen.items():
        yield _clip_finding(where, found, clips, steps)


def _misplaced(events: Sequence[Event], i: int) -> str | None:
    """Where the clip number ``i`` stands among the steps of the optimisers that share its parameters; None: where it should."""
    mine = [k for k, e in enumerate(events) if e.kind == "step" and e.of & events[i].of]
    last = max((k for k in mine if k < i), default=-1)
    upcoming = min((k for k in mine if k > i), default=i)
    before, after = ([e.kind for e in part] for part in (events[last + 1 : i], events[i + 1 : upcoming]))
    if "backward" not in before:
        return "early" if "zero" in before or last < 0 else "after"
    return "between" if "backward" in after else None


def _clip_finding(where: str, found: list[Event], clips: int, steps: list[float]) -> Finding:
    kind, says = {
        "early": ("clip before backward", "The gradient is clipped before the backward pass that makes it, so that nothing is clipped."),
        "after": ("clip after the step", "The gradient is clipped after the optimiser has used it, so that nothing is clipped."),
        "between": ("clip before the last backward", "Gradients that are added after the clipping are not clipped."),
    }[where]
    evidence = {
        "calls": f"{len(found)} of {clips}",
        "limit": found[-1].numbers["limit"],
        "norm_when_clipped": found[-1].numbers["norm_before"],
        "largest_norm_at_a_step": max(steps, default=0.0),
    }
    return Finding(kind, "error", says, evidence, "order them: zero_grad, forward, backward, clip, step")


def graph(reaches: Sequence[Reach], events: Sequence[Event], error: str, window: int | None) -> Iterator[Finding]:
    """The graph should end where a training step begins, unless a longer window was asked for."""
    longer = [r for r in reaches if r.earlier and (window is None or r.reach > window)]
    if not longer and not any(text in error for text in GRAPH_ERRORS):
        return
    kept = sum(e.numbers["retain_graph"] > 0 for e in events if e.kind == "backward")
    evidence = {
        "earlier_steps_in_the_graph": max((r.earlier for r in longer), default=0),
        "reach_by_training_step": [r.reach for r in longer],
        "backward_with_retain_graph": kept,
    }
    says = "The state is handed on with its graph: the gradient goes back through earlier batches, further each time."
    if error:
        says, evidence["torch_says"] = "The state is handed on with its graph, and torch stops.", error.splitlines()[0][:160]
    remedy = "detach the state after each training step (state.detach(), for LSTM both), and leave retain_graph away"
    yield Finding("state not detached", "error", says, evidence, remedy)


def cut(reaches: Sequence[Reach], calls: Sequence[Call], window: int | None) -> Iterator[Finding]:
    """The gradient should go back as far as it is said to, and at least one step if the state does."""
    for name in dict.fromkeys(r.name for r in reaches):
        mine = [r for r in reaches if r.name == name]
        reach = max(r.reach for r in mine)
        if window is not None and reach != min(window, max(r.available for r in mine)):
            evidence = {"layer": name, "said": window, "measured": reach}
            yield Finding("another window", "error", f"The gradient goes back {reach} steps, not {window}.", evidence,
                          "look where the state is detached, and how many steps are between two backward passes")  # fmt: skip
        inside = [c for c in calls if c.name == name and c.previous is not None and c.previous.step == c.step and c.graded]
        if reach == 1 and inside and not any(c.attached for c in inside):
            says = "The state is passed from step to step, but without its graph: the gradient does not go back in time at all."
            evidence = {"layer": name, "steps_in_a_training_step": len(inside) + 1, "gradient_reach": 1}
            yield Finding("detached at every step", "error", says, evidence, "detach between training steps, not between time steps")


def carried(starts: dict[str, list[str]], borders: dict[str, Border], goes_on: bool | None) -> Iterator[Finding]:
    """The state should be carried from batch to batch exactly if the data go on."""
    for name, kinds in starts.items():
        later = kinds[1:]
        evidence = {"layer": name, "batches_that_begin_from": later}
        if name in borders:
            evidence["rows_changed_by_the_batch_before"] = f"{borders[name].crossed} of {borders[name].rows}"
        crosses = "carried" in later
        if crosses and goes_on is False:
            says = "The state of one batch is the start of the next, which does not continue it: sequences receive the memory of others."
            yield Finding("state carried across unrelated batches", "error", says, evidence, "begin each batch from zeros, or feed the "
                          "sequences in order, row by row")  # fmt: skip
        elif later and set(later) == {"zeros"} and goes_on:
            says = "Every batch begins from a state of zeros, although it continues the batch before: all memory is lost at the border."
            yield Finding("state lost between batches", "warning", says, evidence, "pass the last state on, detached")
        elif crosses and goes_on is None:
            says = "The state is carried from batch to batch, and the data do not tell whether they go on. Say continues=."
            yield Finding("state carried", "note", says, evidence)


def resetting(name: str, tried: Resets | None, at_border: tuple[int, int]) -> Iterator[Finding]:
    """The state should be set back at the first step of a sequence, not before and not after."""
    remedy = "set the state back before the first step of a sequence: reset= of throughtime's layers, True where a step is the first one"
    crossed, marked = at_border
    inside = tried or Resets(0, 0, 0, 0)
    evidence = {"layer": name, "starts": inside.starts + marked, "crossed": inside.crossed + crossed}
    if inside.early > inside.starts / 2:
        says = "The state is set back one step early: the last step of a sequence does not remember the sequence, the next one sees it."
        yield Finding("reset one step early", "error", says, evidence | {"early": inside.early}, remedy)
    elif inside.crossed and inside.ended_late > inside.crossed / 2:
        says = "The state is set back one step late: the first step of a sequence still sees the sequence before it."
        yield Finding("reset one step late", "error", says, evidence | {"gone_one_step_later": inside.ended_late}, remedy)
    elif inside.crossed or crossed:
        yield Finding("state crosses a reset", "error", "The state crosses from one sequence into the next.", evidence, remedy)


def padding(calls: Sequence[Call], lengths: Tensor | None, losses: tuple[float, float] | None) -> Iterator[Finding]:
    """What comes after the end of a sequence should not be read, and should not be computed."""
    if lengths is None or not calls:
        return
    T = sum(c.T for c in calls)
    padded = padding_mask(lengths, T)
    read = trained = offset = 0
    for c in calls:
        part = padded[offset : offset + c.T]
        read += 0 if c.reads is None or c.is_cell else int((c.reads & part).sum())
        trained += 0 if c.trains is None else int((c.trains & part).sum())
        offset += c.T
    share = float(padded.double().mean())
    evidence = {"layer": calls[0].name, "padded_steps": int(padded.sum()), "of": padded.numel()}
    if read or trained:
        numbers = {"outputs_read_by_the_loss": read, "inputs_that_receive_a_gradient": trained}
        if losses is not None:
            numbers |= {"loss": losses[0], "loss_with_other_padding": losses[1]}
        says = "Padding enters the loss." if read else "Padding enters the state that the loss reads."
        yield Finding("padding trains", "error", says, evidence | numbers, "mask the loss, and read each sequence's state at its own end "
                      "(pack_padded_sequence, or lengths= of throughtime's layers)")  # fmt: skip
    if share > 0 and all(c.own_lengths is None for c in calls):
        wasteful = share >= WASTEFUL
        says = f"{100 * share:.0f} % of the steps that the layer computes are padding."
        remedy = "pad to the longest sequence of the batch, or sort the sequences by length" if wasteful else ""
        yield Finding("arithmetic on padding", "warning" if wasteful else "note", says, evidence, remedy)
