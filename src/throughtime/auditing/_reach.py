"""How far back the gradient goes at one backward pass, by the graph and by its own numbers.

    reach = 1 + the largest lag k for which ∂h_s/∂x_{s−k} is not zero                                                       (1)

Here s is the last step that the loss reads, ∂ goes through the caller's own graph, with every detach in it, and x is a layer's input.
A probe of zeros that is added to each input receives this derivative (of a random combination of the units of h_s).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ._call import Call

NODES = 200_000  # of a graph are walked


@final
@dataclass(frozen=True)
class Reach:
    """The gradient's reach of one layer at one backward pass.

    Attributes:
        reach: steps, the present one included, as in equation (1).
        available: steps since the state that the sequences began with.
        per_call: steps in a call.
        earlier: training steps that the graph still leads back through.
    """

    name: str
    step: int
    reach: int
    available: int
    per_call: int
    earlier: int


def measure(roots: tuple[Tensor, ...], weights: Any, new: Sequence[Call], calls: Sequence[Call], step: int) -> list[Reach]:
    """Measure every layer that was called since the last backward pass, and write into its calls what the loss reads and trains."""
    new = [c for c in new if c.graded and c.probe is not None and c.output is not None and c.output.requires_grad]
    earlier = _earlier_steps(roots, calls, step)
    if not new:
        return []
    _mark(roots, weights, new)
    names = dict.fromkeys(c.name for c in new)
    found = [_of_layer([c for c in new if c.name == name], step, earlier) for name in names]
    for call in new:
        call.forget_graph()
    return [one for one in found if one is not None]


def _mark(roots: tuple[Tensor, ...], weights: Any, new: Sequence[Call]) -> None:
    """Write into each call which outputs the loss reads and which inputs receive a gradient."""
    for call in new:
        call.reads = call.trains = torch.zeros(call.T, call.B, dtype=torch.bool)
    outputs = [c.output for c in new if c.output is not None]
    states = [s for c in new for s in c.states if not c.is_cell]
    probes = [c.probe for c in new if c.probe is not None]
    weights = None if weights is None else (weights,) if isinstance(weights, Tensor) else tuple(weights)
    got = _gradients(roots, [*outputs, *states, *probes], weights)
    if got is None:
        return
    by_output, by_probe = got[: len(outputs)], got[len(outputs) + len(states) :]
    by_state = iter(got[len(outputs) : len(outputs) + len(states)])
    for call, g, p in zip(new, by_output, by_probe, strict=True):
        call.reads, call.trains = _where(call, g), _where(call, p)
        ends = [next(by_state) for _ in call.states] if not call.is_cell else []
        if any(e is not None and bool(e.ne(0).any()) for e in ends):
            call.reads[-1] |= True


def _of_layer(new: list[Call], step: int, earlier: int) -> Reach | None:
    """Equation (1) for the calls of one layer."""
    last = next((c for c in reversed(new) if c.reads is not None and bool(c.reads.any())), None)
    if last is None:
        return None
    assert last.reads is not None, "it has just been found"
    s = int(last.reads.any(1).nonzero().max())
    chain, offset, reach = list(_chain(last)), s, 1
    got = _gradients((_combination(last, s),), [c.probe for c in chain if c.probe is not None], None) or ()
    for call, g in zip([c for c in chain if c.probe is not None], got, strict=False):
        if call is not last:
            offset += call.T
        back = _where(call, g)[: s + 1] if call is last else _where(call, g)
        if bool(back.any()):
            first = int(back.any(1).nonzero().min())
            reach = max(reach, offset - first + 1)
    return Reach(last.name, step, reach, s + 1 + sum(c.T for c in chain[1:]), last.T, earlier)


def _combination(call: Call, s: int) -> Tensor:
    """A random combination of the units of h_s, or of the last states if they alone are read."""
    assert call.output is not None, "its graph is still there"
    h = call.time_first(call.output)[s]
    parts = [h] if call.is_cell or s < call.T - 1 else [h, *call.states]
    generator = torch.Generator().manual_seed(0)  # a caller's own generators are left alone
    return torch.stack([(p * torch.randn(p.shape, generator=generator).to(p)).sum() for p in parts]).sum()


def _chain(call: Call) -> Iterator[Call]:
    """The call, the call that its states came from, and so on."""
    one: Call | None = call
    while one is not None:
        yield one
        one = one.previous


def _where(call: Call, gradient: Tensor | None) -> Tensor:
    """(T, B) bool: where a gradient, in the caller's layout, is not zero. NaN counts."""
    if gradient is None:
        return torch.zeros(call.T, call.B, dtype=torch.bool)
    return call.time_first(gradient).ne(0).any(2).cpu()


def _gradients(roots: Sequence[Tensor], inputs: Sequence[Tensor], weights: Any) -> tuple[Tensor | None, ...] | None:
    """``torch.autograd.grad``, or None if the graph is not whole any more: the caller's own backward will then say so."""
    roots = [r for r in roots if r.requires_grad]
    if not roots or not inputs:
        return None
    try:
        return torch.autograd.grad(roots, inputs, weights, retain_graph=True, allow_unused=True)
    except RuntimeError:
        return None


def _earlier_steps(roots: tuple[Tensor, ...], calls: Sequence[Call], step: int) -> int:
    """Through how many earlier training steps the graph leads."""
    probes = {id(c.probe): c.step for c in calls if c.probe is not None and c.step < step}
    if not probes:
        return 0
    first, seen, waiting = step, set(), [r.grad_fn for r in roots if r.grad_fn is not None]
    while waiting and len(seen) < NODES:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        first = min(first, probes.get(id(getattr(node, "variable", None)), step))
        waiting += [n for n, _ in node.next_functions if n is not None]
    return step - first
