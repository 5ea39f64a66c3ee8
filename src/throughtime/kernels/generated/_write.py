"""A step as C++: a cell as ``csrc/cell.hpp`` wants it.

G gates · E gates that have a half rh, some of them late · S states · P vectors of the cell's own, L of them learned.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ._expressions import OPERATIONS, Expression, is_mask, needed
from ._keep import FOREVER, H_AFTER, H_BEFORE, KEEP, choose
from ._step import Step

GATES = (1, 2, 3, 4, 6, 8)  # csrc/product.hpp has panels of these widths
MOST_STATES = 4


class Source(NamedTuple):
    """A cell in C++, and its numbers."""

    text: str
    parameters: int
    learned: int
    residuals: int


def written(step: Step) -> Source:
    """The struct ``OwnCell``."""
    plan = _Plan(step)
    lines = [
        "namespace throughtime {",
        "struct OwnCell {",
        f"  static constexpr int gates = {step.gates}, states = {step.states}, residuals = {len(plan.kept)}, slots = {plan.slots};",
        f"  static constexpr int rows = {len(step.drh)}, late = {step.late}, passed = {len(plan.passed)};",
        f"  static constexpr int parameters = {step.parameters}, learned = {step.learned}, derived = {len(plan.derived)};",
        *(_slot_function(f"{half}_slot", slots) for half, slots in (("wx", plan.wx_slots), ("rh", plan.rh_slots))),
        f"  static constexpr bool direct_h = {_cpp(not step.dstate[0].equals(0))}, needs_h_prev = {_cpp(plan.h_before)}, "
        f"needs_h = {_cpp(plan.h_after)}, zeros_stay = false;",
        *plan.functions(),
        "};",
        "}  // namespace throughtime",
    ]
    return Source("\n".join(lines) + "\n", step.parameters, step.learned, len(plan.kept))


class _Plan:
    """Which numbers are kept, what the stages of a step hand to one another, and where each gate's gradient goes."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.after = step.after[0]
        self._before_dh = _without(lambda name: name.startswith("ds") or name == "dq")
        self._is_own = _made_of_vectors()
        chosen = choose(step.back, self._before_dh, self._price)
        self.h_before = any(self._is_h_before(e) for e in chosen)
        self.h_after = any(e is self.after for e in chosen if not self._is_h_before(e))
        self.kept = [e for e in chosen if not self._is_h_before(e) and e is not self.after]
        if not (self.kept or self.h_before or self.h_after):
            self.h_after = True  # backward is given something of the step
        late = {f"rh{g}" for g in range(step.early, len(step.drh))}
        self.passed = choose([*step.after, *self.kept], _without(late.__contains__), self._price_of_passing) if step.late else []
        used = [e for e in needed([*step.after, *step.back], self._is_own) if self._is_own(e)]
        self._prepared = used
        self.derived = {e.order: f"p[{k}]" for k, e in enumerate(used)}  # what the tiles call them
        self._number_slots()

    def _number_slots(self) -> None:
        """A gate whose halves have the same gradient has one slot: rh's lie first, late gates' behind the others', and wx's last."""
        step = self.step
        of_wx = {e.order: g for g, e in reversed(list(enumerate(step.dwx)))}
        shared: dict[int, int] = {}  # from a gate of rh to one of wx
        for k, e in reversed(list(enumerate(step.drh))):
            if e.order in of_wx:
                shared[k] = of_wx.pop(e.order)
        late = range(step.early, len(step.drh))
        if any(k not in shared for k in late):  # then shared early ones and wx's are no one range
            shared = {k: g for k, g in shared.items() if k in late}
        order = sorted(range(len(step.drh)), key=lambda k: (k >= step.early, k in shared))
        self.rh_slots = [order.index(k) for k in range(len(step.drh))]
        by_wx = {g: self.rh_slots[k] for k, g in shared.items()}
        apart = [g for g in range(step.gates) if g not in by_wx]
        self.wx_slots = [by_wx[g] if g in by_wx else len(order) + apart.index(g) for g in range(step.gates)]
        self.slots = len(order) + len(apart)

    def _is_h_before(self, e: Expression) -> bool:
        return e.operation == "input" and e.value == "s0"

    def _price(self, e: Expression) -> int | None:
        if e.is_number or self._is_own(e):
            return None
        if self._is_h_before(e):
            return H_BEFORE
        if is_mask(e):
            return FOREVER  # a truth value is computed again
        return H_AFTER if e is self.after else KEEP

    def _price_of_passing(self, e: Expression) -> int | None:
        if e.is_number or self._is_own(e) or (e.operation == "input" and not str(e.value).startswith("rh")):
            return None  # both stages have it
        return FOREVER if is_mask(e) else PASS

    def functions(self) -> list[str]:
        """The cell's functions in C++."""
        return [*(_function("prepare", "const V* p, V* derived", self.prepare()) if self.step.parameters else []), *self._stages()]

    def _stages(self) -> list[str]:
        step = self.step
        own, d_own = (", const V* p", ", V* d_p") if step.parameters or step.late else ("", "")
        rh, way_back = "const V* wx, const V* rh", "const V* residuals, const V* s_prev, const V* s_next, const V* ds"
        if not step.late:
            return [
                *_function("forward", f"{rh}, const V* s_prev{own}, V* s_next, V* residuals", self.forward()),
                *_function("backward", f"{way_back}{own}, V* d_wx, V* d_rh, V* ds_prev{d_own}", self.backward()),
            ]
        return [
            *_function("between", f"{rh}, const V* s_prev{own}, V* q, V* passed", self.between()),
            *_function("forward", f"{rh}, const V* passed, const V* s_prev{own}, V* s_next, V* residuals", self.forward()),
            *_function("backward_late", f"{way_back}{own}, V* d_rh, V* q", self.backward_late()),
            *_function("backward", f"{way_back}{own}, const V* dq, const V* d_late, V* d_wx, V* d_rh, V* ds_prev{d_own}", self.backward()),
        ]

    def prepare(self) -> list[str]:
        return _Writer(_given(p=self.step.parameters)).statements(_places("derived", self._prepared))

    def between(self) -> list[str]:
        step = self.step
        names = _given(wx=step.gates, rh=step.early, s=step.states)
        assert step.q is not None, "a cell with late gates has it"
        return _Writer(names, self.derived).statements([("q[0]", step.q), *_places("passed", self.passed)])

    def forward(self) -> list[str]:
        step = self.step
        names = _given(wx=step.gates, s=step.states)
        first = step.early if step.late else 0
        names |= {f"rh{first + g}": f"rh[{g}]" for g in range(len(step.drh) - first)}
        known = self.derived | {e.order: f"passed[{k}]" for k, e in enumerate(self.passed)}
        return _Writer(names, known).statements([*_places("s_next", step.after), *_places("residuals", self.kept)])

    def _backward_writer(self) -> "_Writer":
        """One that knows what forward has left."""
        names = _given(ds=self.step.states) | {"dq": "dq[0]"}
        known = self.derived | {e.order: f"residuals[{k}]" for k, e in enumerate(self.kept)}
        if self.h_before:
            names["s0"] = "s_prev[0]"
        if self.h_after:
            known[self.after.order] = "s_next[0]"
        return _Writer(names, known)

    def backward_late(self) -> list[str]:
        step = self.step
        assert step.q is not None, "a cell with late gates has it"
        return self._backward_writer().statements([*_places("d_rh", step.drh[step.early :]), ("q[0]", step.q)])

    def backward(self) -> list[str]:
        step, writer = self.step, self._backward_writer()
        writer.known |= {e.order: f"d_late[{k}]" for k, e in enumerate(step.drh[step.early :]) if step.late and not e.is_number}
        results = {"d_wx": step.dwx, "d_rh": step.drh[: step.early], "ds_prev": step.dstate, "d_p": step.dparameters}
        return writer.statements([place for name, es in results.items() for place in _places(name, es)])


PASS = 4  # the price of handing a number from one stage of a step to the next by way of the first cache, in additions


def _without(excluded: Callable[[str], bool]) -> Callable[[Expression], bool]:
    """Whether nothing that an expression is computed from is one of some inputs."""
    known: dict[int, bool] = {}

    def is_without(e: Expression) -> bool:
        if e.order not in known:
            known[e.order] = not (e.operation == "input" and excluded(str(e.value))) and all(map(is_without, e.arguments))
        return known[e.order]

    return is_without


def _made_of_vectors() -> Callable[[Expression], bool]:
    """Whether an expression is a vector of the cell's own, or made of such vectors and of numbers alone: the same in all steps."""
    known: dict[int, bool] = {}

    def is_own(e: Expression) -> bool:
        if e.order not in known:
            leaf = e.operation == "input" and str(e.value).startswith("p")
            made = [is_own(a) for a in e.arguments if not a.is_number]
            known[e.order] = leaf or (bool(made) and all(made) and not is_mask(e))
        return known[e.order]

    return is_own


def _places(name: str, expressions: Sequence[Expression]) -> list[tuple[str, Expression]]:
    return [(f"{name}[{k}]", e) for k, e in enumerate(expressions)]


def _given(**counts: int) -> dict[str, str]:
    arrays = {"s": "s_prev"}
    return {f"{name}{k}": f"{arrays.get(name, name)}[{k}]" for name, count in counts.items() for k in range(count)}


class _Writer:
    """Writes each expression once."""

    def __init__(self, names: Mapping[str, str], known: Mapping[int, str] = MappingProxyType({})) -> None:
        self.names = names
        self.known = dict(known)

    def statements(self, results: Sequence[tuple[str, Expression]]) -> list[str]:
        lines = []
        stop: Callable[[Expression], bool] = lambda e: e.order in self.known
        for e in needed([e for _, e in results], stop):
            if e.order in self.known or e.is_number:
                continue
            if e.operation == "input":
                self.known[e.order] = self.names[str(e.value)]
                continue
            kind = "typename V::Ints" if OPERATIONS[e.operation].mask else "V"
            lines.append(f"const {kind} v{e.order} = {OPERATIONS[e.operation].written.format(*map(self._of, e.arguments))};")
            self.known[e.order] = f"v{e.order}"
        return lines + [f"{place} = {self._of(e)};" for place, e in results]

    def _of(self, e: Expression) -> str:
        return _number(e.value) if isinstance(e.value, float) else self.known[e.order]


def _number(value: float) -> str:
    if value != value:
        return 'V::all(T(__builtin_nan("")))'
    if value in (float("inf"), float("-inf")):
        return f"V::all(T({'-' if value < 0 else ''}__builtin_huge_val()))"
    return "V::zero()" if repr(value) == "0.0" else f"V::all(T({value!r}))"


def _slot_function(name: str, slots: Sequence[int]) -> str:
    table = ", ".join(map(str, slots or [0]))
    return f"  THROUGHTIME_INLINE static constexpr int {name}(int g) {{ constexpr int slot[] = {{{table}}}; return slot[g]; }}"


def _function(name: str, arguments: str, body: Sequence[str]) -> list[str]:
    return [
        "  template <class V>",
        f"  THROUGHTIME_INLINE static void {name}({arguments}) {{",
        "    using T [[maybe_unused]] = typename V::Scalar;",
        *(f"    {line}" for line in body),
        "  }",
    ]


def _cpp(value: bool) -> str:
    return "true" if value else "false"
