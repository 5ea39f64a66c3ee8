"""Puts back what a training step changes: models, optimisers, random generators, and the variables that its function holds."""

import functools
import itertools
import random
import sys
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import utils

from ._patch import places

DEPTH = 4  # how far into a caller's objects the variables are followed
LARGEST = 10_000_000  # entries of a variable's tensor; a larger one is a data set, which a training step does not change
MANY = 1_000  # of a container's members are followed
OTHERS = ("torch", "numpy", "builtins", "collections", "functools", "random", "typing")


@final
class Snapshot:
    """Remembers everything that it is shown as it is at that moment; ``restore`` puts it back, as often as asked.

    Shown at the beginning: the random generators and what the step's function can name (closure, globals, ``self``). Shown later, before
    each changes: a module at its first call, an optimiser at its first step. What can be reached in neither way stays changed, for example
    an iterator that was advanced or a file that was written.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self._undo: list[Callable[[], object]] = []
        self._seen: set[int] = set()
        self._alive: list[Any] = []  # an object that is gone could lend its id to another
        self._random()
        self.clips = places((utils.clip_grad_norm_, utils.clip_grad_value_))  # found once, as there are many modules
        self._visit(step, DEPTH)

    def restore(self) -> None:
        with torch.no_grad():
            for undo in reversed(self._undo):
                undo()

    def module(self, module: nn.Module) -> None:
        """Remember parameters, buffers, gradients, and attributes of all submodules."""
        for one in module.modules():
            if self._is_new(one):
                self._attributes(one)
                for t in (*one.parameters(recurse=False), *one.buffers(recurse=False)):
                    self._tensor(t)

    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Remember state, learning rates and parameters."""
        if not self._is_new(optimizer):
            return
        state = {p: {k: v.clone() if isinstance(v, Tensor) else v for k, v in held.items()} for p, held in optimizer.state.items()}
        groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]

        def undo() -> None:
            optimizer.state.clear()
            for p, held in state.items():
                optimizer.state[p] = {k: v.clone() if isinstance(v, Tensor) else v for k, v in held.items()}
            for group, before in zip(optimizer.param_groups, groups, strict=True):
                group.update(before)

        self._undo.append(undo)
        for group in optimizer.param_groups:
            for p in group["params"]:
                self._tensor(p)

    def _is_new(self, thing: Any) -> bool:
        new = id(thing) not in self._seen
        if new:
            self._seen.add(id(thing))
            self._alive.append(thing)
        return new

    def _tensor(self, t: Tensor) -> None:
        """Remember a tensor's values and its gradient."""
        if not self._is_new(t) or not t.is_leaf:
            return
        value, grad = t.detach().clone(), t.grad
        grad_value = None if grad is None else grad.detach().clone()

        def undo() -> None:
            if t.shape != value.shape or not _same(t, value):
                t.detach().copy_(value)
            if grad is not None and grad_value is not None:
                grad.detach().copy_(grad_value)
            t.grad = grad

        self._undo.append(undo)

    def _attributes(self, thing: Any) -> None:
        """Remember an object's own attributes, without those that torch keeps for a module."""
        before = {k: v for k, v in vars(thing).items() if not (isinstance(thing, nn.Module) and k.startswith("_"))}

        def undo() -> None:
            for name in [name for name in vars(thing) if name not in before and not (isinstance(thing, nn.Module) and name[0] == "_")]:
                del vars(thing)[name]
            vars(thing).update(before)

        self._undo.append(undo)
        for value in before.values():
            self._visit(value, DEPTH - 1)

    def _visit(self, thing: Any, depth: int) -> None:
        """Remember what a variable holds."""
        if isinstance(thing, Tensor):
            if thing.numel() <= LARGEST:
                self._tensor(thing)
        elif isinstance(thing, nn.Module):
            self.module(thing)
        elif isinstance(thing, torch.optim.Optimizer):
            self.optimizer(thing)
        elif depth and isinstance(thing, (list, dict, set)) and self._is_new(thing):
            self._container(thing, depth)
        elif depth and isinstance(thing, tuple):
            for one in thing:
                self._visit(one, depth - 1)
        elif isinstance(thing, torch.Generator) and self._is_new(thing):
            state = thing.get_state()
            self._undo.append(lambda: thing.set_state(state))
        elif isinstance(thing, random.Random) and self._is_new(thing):
            mine = thing.getstate()
            self._undo.append(lambda: thing.setstate(mine))
        elif depth and isinstance(thing, (FunctionType, MethodType)) and self._is_new(thing):
            self._function(thing, depth)
        elif depth and isinstance(thing, functools.partial):
            self._visit((thing.func, *thing.args, *thing.keywords.values()), depth)
        elif depth and _is_a_users(thing) and self._is_new(thing):
            self._attributes(thing)
            self._visit(type(thing).__call__ if callable(thing) else None, depth - 1)

    def _container(self, held: Any, depth: int) -> None:
        before = held.copy()

        def undo() -> None:
            held.clear()
            (held.extend if isinstance(held, list) else held.update)(before)

        self._undo.append(undo)
        for one in itertools.islice(before.values() if isinstance(before, dict) else before, MANY):
            self._visit(one, depth - 1)

    def _function(self, function: Any, depth: int) -> None:
        """Remember the variables that a function can change: of its closure, of its module, of ``self``."""
        if isinstance(function, MethodType):
            self._visit(function.__self__, depth)
            function = function.__func__
        self._visit((function.__defaults__, function.__kwdefaults__), depth)
        for cell in function.__closure__ or ():
            self._cell(cell, depth)
        names = _names(function.__code__) & set(function.__globals__)
        held = {name: function.__globals__[name] for name in names}
        self._undo.append(lambda: function.__globals__.update(held))
        for value in held.values():
            self._visit(value, depth - 1)

    def _cell(self, cell: Any, depth: int) -> None:
        try:
            before = cell.cell_contents
        except ValueError:  # a variable that has no value yet
            return

        def undo() -> None:
            cell.cell_contents = before

        self._undo.append(undo)
        self._visit(before, depth - 1)

    def _random(self) -> None:
        """Remember every global random generator."""
        cpu, python = torch.get_rng_state(), random.getstate()
        self._undo += [lambda: torch.set_rng_state(cpu), lambda: random.setstate(python)]
        if torch.cuda.is_initialized():
            devices = torch.cuda.get_rng_state_all()
            self._undo.append(lambda: torch.cuda.set_rng_state_all(devices))
        if (numpy := sys.modules.get("numpy")) is not None:
            state = numpy.random.get_state()
            self._undo.append(lambda: numpy.random.set_state(state))


def _names(code: CodeType) -> set[str]:
    """The global names in a function's code and in the functions inside it."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*inner)


def _is_a_users(thing: Any) -> bool:
    """Whether an object may carry a user's variables."""
    schedule = isinstance(thing, torch.optim.lr_scheduler.LRScheduler)
    return schedule or (hasattr(thing, "__dict__") and not isinstance(thing, type) and type(thing).__module__.split(".")[0] not in OTHERS)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape agree in every bit that can be compared; NaN agrees with nothing, and is then written again."""
    return bool((a == b).all())
