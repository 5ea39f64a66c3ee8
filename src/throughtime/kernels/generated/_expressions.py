"""Elementwise mathematics as expressions: what one unit of one sequence computes in a step.

An expression is a number, an input, or an operation on expressions. Equal expressions are one object, so that a common subexpression is
computed once. ``Table.of`` simplifies as it builds; only identities that are exact in floating-point arithmetic are used.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, eq=False)
class Expression:
    """One number of one unit.

    Attributes:
        operation: its name in ``OPERATIONS``; "number" or "input".
        arguments: the operands.
        value: of a number: the float; of an input: its name.
        order: expressions are numbered as they are built, so that an operand has a lower number than what uses it.
    """

    operation: str
    arguments: tuple["Expression", ...]
    value: float | str | None
    order: int

    @property
    def is_number(self) -> bool:
        return self.operation == "number"

    def equals(self, number: float) -> bool:
        return self.value == number and self.is_number


@final
@dataclass(frozen=True)
class Operation:
    """How an operation is written, and what it costs.

    Attributes:
        written: C++ over vectors ``{0}``, ``{1}`` …; a truth value is a mask.
        cost: in additions, about; what is cheap is computed again on the way back rather than kept.
        number: the same on floats, for constants.
        mask: the result is a truth value.
    """

    written: str
    cost: int
    number: Callable[..., float] | None = None
    mask: bool = False


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


_LANES = 60  # a function of the C library, lane by lane
OPERATIONS = {
    "add": Operation("{0} + {1}", 1, operator.add),
    "sub": Operation("{0} - {1}", 1, operator.sub),
    "mul": Operation("{0} * {1}", 1, operator.mul),
    "div": Operation("{0} / {1}", 4, operator.truediv),
    "neg": Operation("neg({0})", 1, lambda a: -a),
    "abs": Operation("abs({0})", 1, math.fabs),
    "sign": Operation("sign({0})", 3),
    "exp": Operation("exp({0})", 10, math.exp),
    "tanh": Operation("tanh({0})", 14, math.tanh),
    "sigmoid": Operation("sigmoid({0})", 14, _sigmoid),
    "relu": Operation("relu({0})", 1),
    "log": Operation("log({0})", 16, math.log),
    "log1p": Operation("log1p({0})", 22, math.log1p),
    "expm1": Operation("expm1({0})", 12, math.expm1),
    "sin": Operation("sin({0})", 20, math.sin),
    "cos": Operation("cos({0})", 20, math.cos),
    "sqrt": Operation("sqrt({0})", 5, math.sqrt),
    "floor": Operation("floor({0})", 2),
    "ceil": Operation("ceil({0})", 2),
    "trunc": Operation("trunc({0})", 2),
    "round": Operation("round({0})", 2),
    "maximum": Operation("maximum({0}, {1})", 3),
    "minimum": Operation("minimum({0}, {1})", 3),
    **{
        name: Operation(f"{name}_lanes({{0}})", _LANES, getattr(math, name))
        for name in ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc")
    },
    "pow": Operation("pow({0}, {1})", _LANES, operator.pow),
    "atan2": Operation("atan2({0}, {1})", _LANES, math.atan2),
    **{name: Operation(f"{name}<V>({{0}}, {{1}})", 1, getattr(operator, name), mask=True) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "and": Operation("{0} & {1}", 1, lambda a, b: float(bool(a) and bool(b)), mask=True),
    "or": Operation("{0} | {1}", 1, lambda a, b: float(bool(a) or bool(b)), mask=True),
    "not": Operation("~{0}", 1, lambda a: float(not a), mask=True),
    "where": Operation("blend<V>({0}, {1}, {2})", 1, lambda c, a, b: a if c else b),
    "as_number": Operation("as_number<V>({0})", 1, float),
}


def is_mask(e: Expression) -> bool:
    """Whether an expression is a truth value."""
    return e.operation in OPERATIONS and OPERATIONS[e.operation].mask


COMMUTATIVE = {"add", "mul", "and", "or", "eq", "ne"}


@final
class Table:
    """Every expression of one step."""

    def __init__(self) -> None:
        self._known: dict[object, Expression] = {}

    def number(self, value: float) -> Expression:
        """A constant."""
        key = ("number", math.copysign(1.0, value), "nan" if math.isnan(value) else float(value))
        return self._one(key, "number", (), float(value))

    def input(self, name: str) -> Expression:
        """A number that the step is given."""
        return self._one(("input", name), "input", (), name)

    def of(self, operation: str, *arguments: Expression) -> Expression:
        """An operation on expressions, simplified."""
        found = self._constant(operation, arguments) or _SIMPLER.get(operation, _as_it_is)(self, *arguments)
        if found is not None:
            return found
        if operation in COMMUTATIVE:
            arguments = tuple(sorted(arguments, key=lambda e: e.order))
        return self._one((operation, *(e.order for e in arguments)), operation, arguments, None)

    def _one(self, key: object, operation: str, arguments: tuple[Expression, ...], value: float | str | None) -> Expression:
        if key not in self._known:
            self._known[key] = Expression(operation, arguments, value, len(self._known))
        return self._known[key]

    def _constant(self, operation: str, arguments: tuple[Expression, ...]) -> Expression | None:
        compute = OPERATIONS[operation].number
        if compute is None or not all(e.is_number for e in arguments):
            return None
        try:
            return self.number(float(compute(*(e.value for e in arguments))))
        except (ArithmeticError, ValueError, TypeError):
            return None  # the machine's arithmetic says what becomes of it


def _as_it_is(_: Table, *arguments: Expression) -> Expression | None:
    return None


def _add(table: Table, a: Expression, b: Expression) -> Expression | None:
    if a.equals(0):
        return b
    if b.equals(0):
        return a
    if b.operation == "neg":
        return table.of("sub", a, b.arguments[0])
    if a.operation == "neg":
        return table.of("sub", b, a.arguments[0])
    return None


def _sub(table: Table, a: Expression, b: Expression) -> Expression | None:
    if b.equals(0):
        return a
    if a.equals(0):
        return table.of("neg", b)
    return table.of("add", a, b.arguments[0]) if b.operation == "neg" else None


def _mul(table: Table, a: Expression, b: Expression) -> Expression | None:
    for one, other in ((a, b), (b, a)):
        if one.equals(1):
            return other
        if one.equals(-1):
            return table.of("neg", other)
    return None


def _div(table: Table, a: Expression, b: Expression) -> Expression | None:
    if b.equals(1):
        return a
    if b.is_number and isinstance(b.value, float) and math.frexp(b.value)[0] in (0.5, -0.5):  # a power of two: the reciprocal is exact
        return table.of("mul", a, table.number(1 / b.value))
    return None


def _neg(table: Table, a: Expression) -> Expression | None:
    return a.arguments[0] if a.operation == "neg" else None


def _pow(table: Table, a: Expression, b: Expression) -> Expression | None:
    if not b.is_number or not isinstance(b.value, float):
        return None
    if b.value == 0.5:
        return table.of("sqrt", a)
    if b.value == -0.5:
        return table.of("div", table.number(1), table.of("sqrt", a))
    if b.value != int(b.value) or abs(b.value) > 8:
        return None
    if b.value < 0:
        return table.of("div", table.number(1), table.of("pow", a, table.number(-b.value)))
    return _whole_power(table, a, int(b.value))


def _whole_power(table: Table, a: Expression, n: int) -> Expression:
    if n == 0:
        return table.number(1)
    if n == 1:
        return a
    half = _whole_power(table, a, n // 2)
    square = table.of("mul", half, half)
    return table.of("mul", square, a) if n % 2 else square


def _where(table: Table, condition: Expression, a: Expression, b: Expression) -> Expression | None:
    if condition.is_number:
        return a if condition.value else b
    return a if a is b else None


_SIMPLER: dict[str, Callable[..., Expression | None]] = {
    "add": _add, "sub": _sub, "mul": _mul, "div": _div, "neg": _neg, "pow": _pow, "where": _where,
}  # fmt: skip


def needed(results: Iterable[Expression], stop: Callable[[Expression], bool] = lambda e: False) -> list[Expression]:
    """The expressions that ``results`` are computed from, operands first; what ``stop`` accepts is listed and not looked into."""
    found: dict[int, Expression] = {}
    waiting = list(results)
    while waiting:
        e = waiting.pop()
        if e.order not in found:
            found[e.order] = e
            waiting.extend(() if stop(e) else e.arguments)
    return [found[k] for k in sorted(found)]


def inputs_of(results: Iterable[Expression]) -> Iterator[str]:
    """The names of the inputs that ``results`` depend on."""
    return (str(e.value) for e in needed(results) if e.operation == "input")
