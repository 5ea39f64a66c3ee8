"""A cell's step and its derivative as expressions, read from torch's own trace of both.

``make_fx`` records the operators of ``step`` and of autograd's way back through it. They are read twice, at two sizes and types; a
step that is not the same at both depends on its sizes, and has no kernel.

G gates · S states · P vectors of the cell's own, L of them learned.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..._check import InputError
from ..._torch_private import record_operators
from ...cells import AbstractCell, FromCallable
from ._arrays import BATCH, UNITS, Array, as_numbers
from ._expressions import Expression, Table, inputs_of, needed
from ._operators import Machine, expressions
from ._refused import Refused
from ._survey import Call, forward, name_of, survey, untraceable
from ._vectors import Vector, check, vectors_of

SIZES = ((19, 23, torch.float64), (29, 31, torch.float32))  # no two alike, and unlike any number of gates


class Step(NamedTuple):
    """A step forward and backward, for one unit. Inputs are named wx0 … rh0 … s0 … ds0 … p0 …, and dq, the adjoint of q."""

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
    late: int  # of the gates of rh the last ones, whose R multiplies q
    q: Expression | None  # None without late gates

    @property
    def early(self) -> int:
        """How many gates of rh come before the late ones."""
        return len(self.drh) - self.late

    @property
    def back(self) -> list[Expression]:
        """What the way back computes."""
        return [*self.dwx, *self.drh, *self.dstate, *self.dparameters, *([] if self.q is None else [self.q])]

    @property
    def results(self) -> list[Expression]:
        return [*self.after, *self.back]


def read(cell: AbstractCell) -> Step:
    """The step of a cell.

    Raises:
        Refused: it has no kernel, and the plain loop serves.
        InputError: it is no step.
    """
    vectors = vectors_of(cell)
    check(cell, vectors)
    calls = survey(cell, vectors)
    steps = [_read_at(cell, vectors, calls, *sizes) for sizes in SIZES]
    if _shape_of(steps[0]) != _shape_of(steps[1]):
        raise Refused(f"step of {name_of(cell)} computes with its sizes or its type, and a kernel is written for all of them")
    return steps[0]


def _shape_of(step: Step) -> list[object]:
    """What is equal for equal steps."""
    return [(e.operation, tuple(a.order for a in e.arguments), repr(e.value), e.order) for e in needed(step.results)]


def _read_at(cell: AbstractCell, vectors: Sequence[Vector], calls: Sequence[Call], B: int, H: int, dtype: torch.dtype) -> Step:
    G, S, L = cell.gates, cell.states, sum(v.learned for v in vectors)
    tensors = [
        *(torch.zeros(B, rows, H, dtype=dtype) for rows in (G, cell.rh_gates)),
        *(torch.zeros(B, H, dtype=dtype) for _ in range(2 * S + (cell.late_gates > 0))),
        *(torch.zeros(H, dtype=dtype) for _ in vectors),
    ]
    names = [v.name for v in vectors]
    graph = _traced(cell, names, L, tensors)
    machine = Machine(Table(), B, H, dtype)
    given = _inputs(machine, cell, len(vectors))
    found = _Reader(cell, calls, machine).run(graph, given)
    return _checked(cell, machine, found, len(vectors), L)


def differentiated_by_hand(cell: AbstractCell) -> bool:
    """Whether a cell has a ``step_vjp`` of its own, which is then its derivative, whatever its step is."""
    bare = isinstance(getattr(cell, "phi", getattr(cell, "activation", None)), FromCallable)  # differentiated by torch.func after all
    kind = type(cell)
    return (kind.step_vjp is not AbstractCell.step_vjp or kind.between_vjp is not AbstractCell.between_vjp) and not bare


def _traced(cell: AbstractCell, names: Sequence[str], L: int, tensors: Sequence[Tensor]) -> torch.fx.GraphModule:
    S, late = cell.states, cell.late_gates > 0

    def both(*given: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
        wx, rh, *rest = given
        state, arriving, own = rest[:S], rest[S : 2 * S + late], rest[2 * S + late :]
        leaves = [x.detach().requires_grad_() for x in (wx, rh, *state, *own[:L])]
        after = forward(cell, names, [*leaves, *own[L:]])
        if differentiated_by_hand(cell) and not own:
            return after, _by_hand(cell, wx, rh, tuple(state), tuple(s.detach() for s in after), arriving)
        graded = [(s, d) for s, d in zip(after, arriving, strict=True) if s.requires_grad]
        if not graded:
            raise InputError(f"step of {name_of(cell)} has no gradient; expected one that torch can differentiate.")
        found = torch.autograd.grad([s for s, _ in graded], leaves, [d for _, d in graded], allow_unused=True)
        return after, found

    try:
        with torch.enable_grad():
            return record_operators(both, tensors)
    except (InputError, Refused):
        raise
    except Exception as error:
        raise untraceable(cell, error) from error


def _by_hand(
    cell: AbstractCell, wx: Tensor, rh: Tensor, state: tuple[Tensor, ...], after: tuple[Tensor, ...], arriving: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The gradients of wx, rh and the states by the cell's own functions; of a cell with late gates both stages'."""
    S, early = cell.states, cell.rh_gates - cell.late_gates
    dwx, drh, dbefore = cell.step_vjp(wx, rh, state, after[:S], tuple(arriving[:S]))
    if cell.late_gates == 0:
        return dwx, drh, *dbefore
    d_wx, d_rh, d_before = cell.between_vjp(wx, rh[:, :early], state, arriving[S])
    return dwx + d_wx, torch.cat((drh[:, :early] + d_rh, drh[:, early:]), 1), *map(torch.add, dbefore, d_before)


def _inputs(machine: Machine, cell: AbstractCell, P: int) -> list[Array]:
    def gates(name: str, G: int) -> Array:
        entries = np.empty((1, G, 1), dtype=object)
        entries[0, :, 0] = [machine.table.input(f"{name}{g}") for g in range(G)]
        return Array((BATCH, G, UNITS), entries)

    def one(name: str, *labels: str) -> Array:
        entries = np.empty((1,) * len(labels), dtype=object)
        entries[...] = machine.table.input(name)
        return Array(labels, entries)

    states = [one(f"{name}{k}", BATCH, UNITS) for name in ("s", "ds") for k in range(cell.states)]
    states += [one("dq", BATCH, UNITS)] if cell.late_gates > 0 else []
    return [gates("wx", cell.gates), gates("rh", cell.rh_gates), *states, *(one(f"p{k}", UNITS) for k in range(P))]


class _Reader:
    """Reads a graph of operators with arrays in place of tensors."""

    def __init__(self, cell: AbstractCell, calls: Sequence[Call], machine: Machine) -> None:
        self.cell, self.calls, self.machine = cell, calls, machine

    def run(self, graph: torch.fx.GraphModule, given: Sequence[Array]) -> tuple[list[Array], list[Array | None]]:
        values: dict[torch.fx.Node, Any] = {}
        rest = iter(given)
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                values[node] = next(rest)
            elif node.op == "get_attr":
                values[node] = self._constant(getattr(graph, str(node.target)))
            elif node.op == "output":
                after, found = torch.fx.node.map_arg(node.args[0], lambda n: values[n])  # type: ignore[misc]
                return list(after), list(found)
            elif node.target is operator.getitem:
                values[node] = values[node.args[0]][node.args[1]]
            else:
                values[node] = self._call(node, lambda n: values[n])
        raise AssertionError("a graph ends with its output")

    def _call(self, node: torch.fx.Node, value: Callable[[torch.fx.Node], Any]) -> Any:
        arguments, options = torch.fx.node.map_arg((node.args, node.kwargs), value)  # type: ignore[misc]
        name = node.target.overloadpacket.__name__  # type: ignore[union-attr]
        try:
            if name.endswith("_") and _changes_its_own(node):
                name = name.removesuffix("_")
            return self.machine.call(name, arguments, options)
        except Refused as why:
            raise Refused(f"{self._where(name)} {why}, and a kernel computes each unit by itself") from None
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise Refused(f"{self._where(name)} is called in a way that no kernel is written for ({error})") from None

    def _where(self, name: str) -> str:
        plain = name.removesuffix("_backward").strip("_")
        line = next((c.where for c in self.calls if c.name.strip("_") == plain), "")
        return f"{name} in step of {name_of(self.cell)}{f' ({line})' if line else ''}"

    def _constant(self, tensor: Tensor) -> Array:
        if tensor.requires_grad:
            raise InputError(
                f"step of {name_of(self.cell)} uses a tensor that requires a gradient and is no parameter of it, so that it would get "
                "none; expected the cell to be an nn.Module with that tensor as its parameter, or a tensor without gradient."
            )
        if tensor.numel() != 1:
            raise Refused(
                f"step of {name_of(self.cell)} uses a tensor of shape {tuple(tensor.shape)} from outside; a kernel takes it as a field "
                "or a buffer of the cell"
            )
        array = self.machine.array(float(tensor))
        for _ in range(tensor.ndim):
            array = self.machine.call("unsqueeze", [array, 0], {})
        return array


_VIEWS = (
    "select", "slice", "view", "_unsafe_view", "unsqueeze", "squeeze", "permute", "transpose", "t", "expand", "alias", "detach", "unbind",
    "split", "split_with_sizes", "chunk", "diagonal",
)  # fmt: skip


def _changes_its_own(node: torch.fx.Node) -> bool:
    """Whether an operation in place changes a tensor that nothing else sees, neither through a view nor later. It is then as good as the
    same operation out of place, whose result the graph names from here on."""
    changed = node.args[0]
    if not isinstance(changed, torch.fx.Node) or changed.op != "call_function" or _kind(changed) in (*_VIEWS, "getitem"):
        return False
    before = set()
    for other in node.graph.nodes:
        if other is node:
            break
        before.add(other)
    return all(user is node or (user in before and _kind(user) not in _VIEWS) for user in changed.users)


def _kind(node: torch.fx.Node) -> str:
    return getattr(getattr(node.target, "overloadpacket", node.target), "__name__", "")


def _checked(cell: AbstractCell, machine: Machine, found: tuple[list[Array], list[Array | None]], P: int, L: int) -> Step:
    results, derivatives = found
    G, S, late = cell.gates, cell.states, cell.late_gates
    after = [_entries(cell, machine, s)[0] for s in results]
    zero = machine.table.number(0)
    dwx, drh = (
        [zero] * n if d is None or n == 0 else _entries(cell, machine, d) for n, d in zip((G, cell.rh_gates), derivatives[:2], strict=True)
    )
    dstate = [zero if d is None else _entries(cell, machine, d)[0] for d in derivatives[2 : 2 + S]]
    dparameters = [zero if d is None else _entries(cell, machine, d)[0] for d in derivatives[2 + S :]]
    step = Step(machine.table, G, S, P, L, after[:S], dwx, drh, dstate, dparameters, late, after[S] if late else None)
    if any(name.startswith("d") for name in inputs_of(after)) or "dq" in inputs_of(drh[step.early :]):
        raise Refused(f"step of {name_of(cell)} cannot be read")
    return step


def _entries(cell: AbstractCell, machine: Machine, array: Array) -> list[Expression]:
    return expressions(as_numbers(machine.table, array))
