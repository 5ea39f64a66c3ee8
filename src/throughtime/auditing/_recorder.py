"""Watches training steps: every call of a recurrent layer; backward, clipping, the optimiser's steps and ``zero_grad`` in order."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from ._call import RECURRENT, Call, data_of, rows, split
from ._patch import Patches
from ._reach import Reach, measure
from ._snapshot import Snapshot

LOOK_BACK = 64  # calls that are searched for the one whose states came in


@final
@dataclass(frozen=True)
class Event:
    """Something that happened between two forward passes."""

    kind: str  # "zero", "backward", "clip", "step"
    step: int  # of the training step
    numbers: dict[str, float] = field(default_factory=dict)
    of: frozenset[int] = frozenset()  # the parameters of a clip or a step, by id


@final
class Recorder:
    """Watches the training steps that run inside of it.

    Args:
        snapshot: is shown every model and optimiser before it changes.
        measuring: measure the gradient at every backward pass.
        nudge: by number of call, (T, B) bool: where the layer's input is changed. Weights are then held still.
    """

    def __init__(self, snapshot: Snapshot, *, measuring: bool, nudge: Mapping[int, Tensor] | None = None) -> None:
        self.snapshot, self.measuring, self.nudge = snapshot, measuring, nudge
        self.calls: list[Call] = []
        self.events: list[Event] = []
        self.losses: list[float] = []
        self.reaches: list[Reach] = []
        self.step = 0
        self._names: dict[int, str] = {}
        self._known: set[int] = set()
        self._last: dict[int, list[Call]] = {}
        self._measured = 0
        self._busy = False
        self._patches = Patches()

    def __enter__(self) -> "Recorder":
        p = self._patches
        p.replace(nn.Module, "__call__", self._module_call(nn.Module.__call__))
        p.replace(torch.autograd, "backward", self._backward(torch.autograd.backward))
        p.replace(torch.optim.Optimizer, "zero_grad", self._noting("zero", torch.optim.Optimizer.zero_grad))
        p.replace(nn.Module, "zero_grad", self._noting("zero", nn.Module.zero_grad))
        for module, name in self.snapshot.clips:
            p.replace(module, name, self._clip(vars(module)[name]))
        p.before_steps(self._before_step)
        if self.nudge is not None:
            p.after_steps(self._hold_still)
        return self

    def __exit__(self, *error: Any) -> None:
        self._patches.__exit__(*error)

    def end_step(self) -> None:
        """The training step has returned."""
        for call in self.calls:
            call.forget_graph()
        self.step += 1

    # Layers.

    def _module_call(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            self._meet(module)
            if self._busy or not isinstance(module, RECURRENT):
                return original(module, *args, **kwargs)
            self._busy = True
            try:
                return self._layer(original, module, *args, **kwargs)
            finally:
                self._busy = False

        return call

    def _meet(self, module: nn.Module) -> None:
        """Remember a module that is called for the first time, and what its submodules are called."""
        if id(module) not in self._known:
            self.snapshot.module(module)
            for name, one in module.named_modules():
                self._known.add(id(one))
                self._names.setdefault(id(one), name or type(one).__name__)

    def _layer(self, original: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """One call of a recurrent layer, with a probe in its input."""
        given = args[0] if args else kwargs.pop("input")
        hx, rest = (args[1], args[2:]) if len(args) > 1 else (kwargs.pop("hx", None), ())
        call = self._begin(module, given, hx, kwargs)
        result = original(module, self._changed(call, given), hx, *rest, **kwargs)
        output, states = split(module, result)
        call.output, call.states = data_of(output), states
        call.end = rows(module, states).clone()
        if self.nudge is not None:
            call.values = call.time_first(call.output.detach()).clone()
        return result

    def _begin(self, module: nn.Module, given: Any, hx: Any, kwargs: dict[str, Any]) -> Call:
        plain = PackedSequence(given.data.detach(), *given[1:]) if isinstance(given, PackedSequence) else given.detach()
        start = None if hx is None else _after_reset(rows(module, hx), kwargs.get("reset"))
        graded = torch.is_grad_enabled() and data_of(given).is_floating_point()
        call = Call(module, self._names[id(module)], len(self.calls), self.step, plain, start, graded)
        call.T, call.B = call.xs().shape[:2]
        call.own_lengths = _own_lengths(given, kwargs)
        call.attached = any(s.requires_grad and not s.is_leaf for s in _states(hx))
        before = self._last.setdefault(id(module), [])
        call.carried = torch.zeros(call.B, dtype=torch.bool)
        if start is not None:
            call.previous, call.carried = _source(start, before[-LOOK_BACK:], attached=call.attached and graded)
        before.append(call)
        self.calls.append(call)
        return call

    def _changed(self, call: Call, given: Any) -> Any:
        """The caller's input with zeros added, whose gradient can be asked for, or with a nudge."""
        data = data_of(given)
        if self.nudge is not None:
            if call.number not in self.nudge or self.nudge[call.number].shape != (call.T, call.B):
                return given
            new = data + _in_layout(call, self.nudge[call.number]).to(data) * (data.detach().std(correction=0) + 1)
        elif self.measuring and call.graded:
            call.probe = torch.zeros_like(data, requires_grad=True)
            new = data + call.probe
        else:
            return given
        return PackedSequence(new, *given[1:]) if isinstance(given, PackedSequence) else new

    # Everything else that happens in a training step.

    def _backward(self, original: Callable[..., None]) -> Callable[..., None]:
        def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, *args: Any, **kwargs: Any) -> None:
            roots = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
            self.losses.append(float(sum(t.detach().double().sum() for t in roots)))
            self.events.append(Event("backward", self.step, {"retain_graph": float(bool(retain_graph))}))
            if self.measuring:
                new, self._measured = self.calls[self._measured :], len(self.calls)
                self.reaches += measure(roots, grad_tensors, new, self.calls, self.step)
            original(tensors, grad_tensors, retain_graph, *args, **kwargs)

        return backward

    def _noting(self, kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self.events.append(Event(kind, self.step))
            return original(*args, **kwargs)

        return noted

    def _clip(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def clip(parameters: Any, limit: float, *args: Any, **kwargs: Any) -> Any:
            given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
            before = norm(given)
            result = original(given, limit, *args, **kwargs)
            numbers = {"limit": float(limit), "norm_before": before, "norm_after": norm(given)}
            self.events.append(Event("clip", self.step, numbers, frozenset(map(id, given))))
            return result

        return clip

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.snapshot.optimizer(optimizer)
        parameters = _parameters(optimizer)
        self.events.append(Event("step", self.step, {"norm": norm(parameters)}, frozenset(map(id, parameters))))
        self._held = [p.detach().clone() for p in _parameters(optimizer)] if self.nudge is not None else []

    @torch.no_grad()
    def _hold_still(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for p, before in zip(_parameters(optimizer), self._held, strict=True):
            p.copy_(before)


def norm(parameters: Iterable[Tensor]) -> float:
    """The Euclidean norm of all gradients together."""
    return sum(float(p.grad.detach().double().square().sum()) for p in parameters if p.grad is not None) ** 0.5


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _states(hx: Any) -> tuple[Tensor, ...]:
    return () if hx is None else tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


def _after_reset(start: Tensor, reset: Any) -> Tensor:
    """(B, ·) the incoming states, zero where this package's layers were told to set them back before the first step."""
    if reset is None:
        return start
    reset = torch.as_tensor(reset).to(start.device).bool()
    return start.masked_fill((reset if reset.ndim == 1 else reset[0]).unsqueeze(1), 0)


def _own_lengths(given: Any, kwargs: dict[str, Any]) -> Tensor | None:
    """(B,) the lengths that the layer was told, as a packed sequence or by ``lengths=``."""
    if isinstance(given, PackedSequence):
        sorted_lengths = (given.batch_sizes.unsqueeze(1) > torch.arange(int(given.batch_sizes[0]))).sum(0)
        return sorted_lengths if given.unsorted_indices is None else sorted_lengths[given.unsorted_indices.cpu()]
    return None if kwargs.get("lengths") is None else torch.as_tensor(kwargs["lengths"]).cpu()


def _source(start: Tensor, before: list[Call], *, attached: bool) -> tuple[Call | None, Tensor]:
    """The latest call that ended with a state that came in now, and in which rows; states of zeros tell nothing."""
    for call in reversed(before):
        if call.end is not None and call.end.shape == start.shape:
            same = (call.end == start).all(1) & start.ne(0).any(1)
            if same.any():
                return call, same.cpu()
    latest = before[-1] if attached and before else None  # a state that was changed on its way
    return latest, torch.zeros(len(start), dtype=torch.bool)


def _in_layout(call: Call, where: Tensor) -> Tensor:
    """(T, B) as a tensor that can be added to the caller's input."""
    if isinstance(call.given, PackedSequence):
        lengths, order = call.own_lengths, call.given.sorted_indices
        assert lengths is not None, "a packed sequence has lengths"
        if order is not None:
            where, lengths = where[:, order.cpu()], lengths[order.cpu()]
        return pack_padded_sequence(where.float().unsqueeze(2), lengths).data
    if call.is_cell:
        return where.reshape(*data_of(call.given).shape[:-1], 1)
    if data_of(call.given).ndim == 2:
        return where
    return (where.T if call.module.batch_first else where).unsqueeze(2)
