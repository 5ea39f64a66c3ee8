"""A cell's step and its derivative as expressions, read from torch's own trace of both.

``make_fx`` records the operators of ``step`` and of autograd's way back through it. They are read twice, at two sizes and types; a
step that is not the same at both depends on its sizes, and has no kernel.

G gates · S states · P vectors of the cell's own, L of them learned.
"""

import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..._check import InputError
from ..._torch_private import record_operators
from ...cells import AbstractCell
from ._arrays import BATCH, UNITS, Array
from ._expressions import Expression, Table, inputs_of
from ._operators import Machine, expressions
from ._refused import Refused
from ._vectors import Vector, check, replaced, vectors_of

SIZES = ((19, 23, torch.float64), (29, 31, torch.float32))  # no two alike, and unlike any number of gates


class Step(NamedTuple):
    """A step forward and backward, for one unit. Inputs are named wx0 … rh0 … s0 … ds0 … p0 …"""

    table: Table
    gates: int
    states: int
    parameters: int
    learned: int
    after: list[Expression]  # the states after
    dwx: list[Expression]
    drh: list[Expression]
    dstate: list[Expression]
    dparameters: list[Expression]  # one sequence's term

    @property
    def results(self) -> list[Expression]:
        return [*self.after, *self.dwx, *self.drh, *self.dstate, *self.dparameters]


def read(cell: AbstractCell) -> Step:
    """The step of a cell.

    Raises:
        Refused: it has no kernel, and the plain loop serves.
        InputError: it is no step.
    """
    vectors = vectors_of(cell)
    check(cell, vectors)
    steps = [_read_at(cell, vectors, *sizes) for sizes in SIZES]
    if _shape_of(steps[0]) != _shape_of(steps[1]):
        raise Refused(f"step of {_name(cell)} computes with its sizes or its type, and a kernel is written for all of them")
    return steps[0]


def _shape_of(step: Step) -> list[object]:
    """What is equal for equal steps."""
    from ._expressions import needed

    return [(e.operation, tuple(a.order for a in e.arguments), repr(e.value), e.order) for e in needed(step.results)]


def _name(cell: AbstractCell) -> str:
    return type(cell).__name__


def _read_at(cell: AbstractCell, vectors: Sequence[Vector], B: int, H: int, dtype: torch.dtype) -> Step:
    G, S, L = cell.gates, cell.states, sum(v.learned for v in vectors)
    tensors = [
        *(torch.zeros(B, G, H, dtype=dtype) for _ in range(2)),
        *(torch.zeros(B, H, dtype=dtype) for _ in range(2 * S)),
        *(torch.zeros(H, dtype=dtype) for _ in vectors),
    ]
    names = [v.name for v in vectors]
    graph = _traced(cell, names, L, tensors)
    machine = Machine(Table(), B, H, dtype)
    given = _inputs(machine, G, S, len(vectors))
    found = _Reader(cell, names, machine).run(graph, given)
    return _checked(cell, machine, found, len(vectors), L)


def _forward(cell: AbstractCell, names: Sequence[str], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    S = cell.states
    wx, rh, *rest = tensors
    with replaced(cell, names, rest[S:]) as own:
        after = own.step(wx, rh, tuple(rest[:S]))
    return check_result(cell, after, rest[0])


def check_result(cell: AbstractCell, after: Any, like: Tensor) -> tuple[Tensor, ...]:
    """Refuse what is not the state after a step.

    Raises:
        InputError: a result of another kind, number, shape or type.
    """
    wanted = f"a tuple of {cell.states} tensor{'s' if cell.states > 1 else ''} (B, H), the state after the step"
    if not isinstance(after, (tuple, list)) or not all(isinstance(s, Tensor) for s in after):
        raise InputError(f"step of {_name(cell)} returned a {type(after).__name__}; expected {wanted}.")
    if len(after) != cell.states:
        raise InputError(f"step of {_name(cell)} returned {len(after)} states; expected {wanted}, as its attribute states says.")
    for k, s in enumerate(after):
        if s.shape != like.shape:
            raise InputError(f"step of {_name(cell)} returned state {k} of shape {tuple(s.shape)} for B, H = {tuple(like.shape)}; expected {wanted}.")
        if s.dtype != like.dtype:
            raise InputError(f"step of {_name(cell)} returned state {k} as {s.dtype} for {like.dtype}; expected the type of its input.")
    return tuple(after)


def _traced(cell: AbstractCell, names: Sequence[str], L: int, tensors: Sequence[Tensor]) -> torch.fx.GraphModule:
    S = cell.states

    def both(*given: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
        wx, rh, *rest = given
        state, dstate, own = rest[:S], rest[S : 2 * S], rest[2 * S :]
        leaves = [x.detach().requires_grad_() for x in (wx, rh, *state, *own[:L])]
        after = _forward(cell, names, [*leaves[: 2 + S], *leaves[2 + S :], *own[L:]])
        graded = [(s, d) for s, d in zip(after, dstate, strict=True) if s.requires_grad]
        if not graded:
            raise InputError(f"step of {_name(cell)} has no gradient; expected one that torch can differentiate.")
        found = torch.autograd.grad([s for s, _ in graded], leaves, [d for _, d in graded], allow_unused=True)
        return after, found

    try:
        with torch.enable_grad():
            return record_operators(both, tensors)
    except (InputError, Refused):
        raise
    except Exception as error:
        raise _untraceable(cell, error) from error


def _untraceable(cell: AbstractCell, error: Exception) -> Refused:
    first = str(error).strip().split("\n")[0].rstrip(".")[:200]
    data = any(word in f"{type(error).__name__} {error}" for word in ("DataDependent", "_local_scalar_dense", "data-dependent", "GuardOnData"))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if data:
        return Refused(f"step of {_name(cell)} chooses by the data what to compute{where}, and a kernel computes the same for every unit")
    return Refused(f"step of {_name(cell)} cannot be traced{where}: {first}")


def _inputs(machine: Machine, G: int, S: int, P: int) -> list[Array]:
    import numpy as np

    def gates(name: str) -> Array:
        entries = np.empty((1, G, 1), dtype=object)
        entries[0, :, 0] = [machine.table.input(f"{name}{g}") for g in range(G)]
        return Array((BATCH, G, UNITS), entries)

    def one(name: str, *labels: str) -> Array:
        entries = np.empty((1,) * len(labels), dtype=object)
        entries[...] = machine.table.input(name)
        return Array(labels, entries)

    states = [one(f"{name}{k}", BATCH, UNITS) for name in ("s", "ds") for k in range(S)]
    return [gates("wx"), gates("rh"), *states, *(one(f"p{k}", UNITS) for k in range(P))]


class _Reader:
    """Reads a graph of operators with arrays in place of tensors."""

    def __init__(self, cell: AbstractCell, names: Sequence[str], machine: Machine) -> None:
        self.cell, self.names, self.machine = cell, names, machine

    def run(self, graph: torch.fx.GraphModule, given: Sequence[Array]) -> tuple[list[Array], list[Array | None]]:
        values: dict[torch.fx.Node, Any] = {}
        rest = iter(given)
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(rest)
            elif node.op == "get_attr":
                values[node] = self._constant(getattr(graph, str(node.target)))
            elif node.op == "output":
                return torch.fx.node.map_arg(node.args[0], lambda n: values[n])  # type: ignore[return-value]
            elif node.target is _getitem:
                values[node] = values[node.args[0]][node.args[1]]
            else:
                values[node] = self._call(node, lambda n: values[n])
        raise AssertionError("a graph ends with its output")

    def _call(self, node: torch.fx.Node, value: Callable[[torch.fx.Node], Any]) -> Any:
        arguments, options = torch.fx.node.map_arg((node.args, node.kwargs), value)  # type: ignore[misc]
        name = node.target.overloadpacket.__name__  # type: ignore[union-attr]
        try:
            _check_random_and_in_place(self.cell, name, node)
            return self.machine.call(name, arguments, options)
        except Refused as why:
            raise Refused(f"{self._where(name)} {why}, and a kernel computes each unit by itself") from None
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise Refused(f"{self._where(name)} is called in a way that no kernel is written for ({error})") from None

    def _where(self, name: str) -> str:
        line = line_of(self.cell, self.names, name)
        return f"{name} in step of {_name(self.cell)}{f' ({line})' if line else ''}"

    def _constant(self, tensor: Tensor) -> Array:
        if tensor.requires_grad:
            raise InputError(
                f"step of {_name(self.cell)} uses a tensor that requires a gradient and is no parameter of it, so that it would get none; "
                "expected the cell to be an nn.Module with that tensor as its parameter, or a tensor without gradient."
            )
        if tensor.numel() != 1:
            raise Refused(
                f"step of {_name(self.cell)} uses a tensor of shape {tuple(tensor.shape)} from outside; a kernel takes it as a field or a buffer"
            )
        array = self.machine.array(float(tensor))
        for _ in range(tensor.ndim):
            array = self.machine.call("unsqueeze", [array, 0], {})
        return array


_getitem = __import__("operator").getitem
_RANDOM = ("bernoulli", "rand", "randn", "rand_like", "randn_like", "normal", "uniform", "native_dropout", "randint", "randint_like",
           "exponential", "multinomial", "dropout", "randperm", "normal_functional", "bernoulli_", "uniform_", "normal_")  # fmt: skip


def _check_random_and_in_place(cell: AbstractCell, name: str, node: torch.fx.Node) -> None:
    if name in _RANDOM:
        raise InputError(
            f"{name} in step of {_name(cell)} draws from a random generator, so that the way back would see other numbers than the way "
            "forward; expected a step that gives the same result every time. Draw outside, and pass the numbers in with xs."
        )
    changes = name.endswith("_") and not name.startswith("_") and name not in ("logical_and_", "logical_or_")
    if changes and isinstance(node.args[0], torch.fx.Node) and _is_input(node.args[0]):
        raise InputError(
            f"{name} in step of {_name(cell)} changes its input in place; expected a step that leaves its input as it is. Write "
            f"{name.rstrip('_')} without the underscore."
        )


def _is_input(node: torch.fx.Node) -> bool:
    while node.op == "call_function" and node.target.overloadpacket.__name__ in ("detach", "alias", "select", "view"):  # type: ignore[union-attr]
        node = node.args[0]  # type: ignore[assignment]
    return node.op == "placeholder"


def _is_users(file: str) -> bool:
    """Whether a file is not torch's and not of this package's kernels."""
    return "/torch/" not in file and "throughtime/kernels" not in file and not file.startswith("<")


def line_of(cell: AbstractCell, names: Sequence[str], name: str) -> str:
    """The file and line of the step from which an operator is called first; empty where it is not found."""
    finder = _Finder(name.removesuffix("_backward").strip("_"))
    shapes = [(5, cell.gates, 7)] * 2 + [(5, 7)] * cell.states
    try:
        with torch.no_grad(), finder:
            _forward(cell, names, [*(torch.zeros(s) for s in shapes), *(torch.zeros(7) for _ in names)])
    except Exception:
        return finder.line
    return finder.line


class _Finder(TorchDispatchMode):
    """Remembers from where an operator was called first."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.line = name, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.line and func.overloadpacket.__name__.strip("_") == self.name:
            frames = [f for f in traceback.extract_stack() if _is_users(f.filename)]
            self.line = f"{frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line}" if frames else ""
        return func(*args, **(kwargs or {}))


def _checked(cell: AbstractCell, machine: Machine, found: tuple[list[Array], list[Array | None]], P: int, L: int) -> Step:
    after, derivatives = found
    G, S = cell.gates, cell.states
    zero = machine.table.number(0)
    dwx, drh = ([zero] * G if d is None else _entries(cell, machine, d) for d in derivatives[:2])
    dstate = [zero if d is None else _entries(cell, machine, d)[0] for d in derivatives[2 : 2 + S]]
    dparameters = [zero if d is None else _entries(cell, machine, d)[0] for d in derivatives[2 + S :]]
    step = Step(machine.table, G, S, P, L, [_entries(cell, machine, s)[0] for s in after], dwx, drh, dstate, dparameters)
    if any(name.startswith("d") for name in inputs_of(step.after)):
        raise Refused(f"step of {_name(cell)} cannot be read")
    return step


def _entries(cell: AbstractCell, machine: Machine, array: Array) -> list[Expression]:
    array = machine.each("as_number", array) if any(e.operation in ("lt", "gt") for e in array.entries.flat) else array
    return expressions(array)
