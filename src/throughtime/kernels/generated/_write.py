"""A step as C++: a cell as ``csrc/cell.hpp`` wants it.

G gates · S states · P vectors of the cell's own, L of them learned.
"""

from collections.abc import Callable, Mapping, Sequence
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
        f"  static constexpr int parameters = {step.parameters}, learned = {step.learned};",
        f"  static constexpr bool has_R = {_cpp(bool(step.drh))};",
        *(_slot_function(f"{half}_slot", slots) for half, slots in (("wx", plan.wx_slots), ("rh", plan.rh_slots))),
        f"  static constexpr bool direct_h = {_cpp(not step.dstate[0].equals(0))}, needs_h_prev = {_cpp(plan.h_before)}, "
        f"needs_h = {_cpp(plan.h_after)};",
        *_function("forward", "const V* wx, const V* rh, const V* s_prev", "V* s_next, V* residuals", step, plan.forward()),
        *_function(
            "backward",
            "const V* residuals, const V* s_prev, const V* s_next, const V* ds",
            _OUT[step.parameters > 0],
            step,
            plan.backward(),
        ),
        "};",
        "}  // namespace throughtime",
    ]
    return Source("\n".join(lines) + "\n", step.parameters, step.learned, len(plan.kept))


_OUT = {False: "V* d_wx, V* d_rh, V* ds_prev", True: "V* d_wx, V* d_rh, V* ds_prev, V* d_p"}


class _Plan:
    """Which numbers are kept, and where each gate's gradient goes."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.back = [*step.dwx, *step.drh, *step.dstate, *step.dparameters]
        self.after = step.after[0]
        chosen = choose(self.back, self._is_forward, self._price)
        self.h_before = any(self._is_h_before(e) for e in chosen)
        self.h_after = any(e is self.after for e in chosen if not self._is_h_before(e))
        self.kept = [e for e in chosen if not self._is_h_before(e) and e is not self.after]
        if not (self.kept or self.h_before or self.h_after):
            self.h_after = True  # backward is given something of the step
        if not step.drh:  # no R
            self.slots, self.rh_slots, self.wx_slots = step.gates, [0] * step.gates, list(range(step.gates))
            return
        shared = [g for g in range(step.gates) if step.dwx[g] is step.drh[g]]
        apart = [g for g in range(step.gates) if g not in shared]
        self.slots = step.gates + len(apart)
        order = {g: k for k, g in enumerate([*apart, *shared])}
        self.rh_slots = [order[g] for g in range(step.gates)]
        self.wx_slots = [order[g] if g in shared else step.gates + apart.index(g) for g in range(step.gates)]

    def _is_forward(self, e: Expression) -> bool:
        """Whether nothing of the way back goes into it."""
        known = self.__dict__.setdefault("_known", {})
        if e.order not in known:
            own = e.operation == "input" and str(e.value).startswith("ds")
            known[e.order] = not own and all(self._is_forward(a) for a in e.arguments)
        return known[e.order]

    def _is_h_before(self, e: Expression) -> bool:
        return e.operation == "input" and e.value == "s0"

    def _price(self, e: Expression) -> int | None:
        if e.is_number or (e.operation == "input" and str(e.value).startswith("p")):
            return None
        if self._is_h_before(e):
            return H_BEFORE
        if is_mask(e):
            return FOREVER  # a truth value is computed again
        return H_AFTER if e is self.after else KEEP

    def forward(self) -> list[str]:
        names = _given(wx=self.step.gates, rh=self.step.gates, s=self.step.states, p=self.step.parameters)
        writer = _Writer(names)
        results = [(f"s_next[{k}]", e) for k, e in enumerate(self.step.after)] + [(f"residuals[{k}]", e) for k, e in enumerate(self.kept)]
        return writer.statements(results)

    def backward(self) -> list[str]:
        names = _given(ds=self.step.states, p=self.step.parameters)
        writer = _Writer(names)
        for k, e in enumerate(self.kept):
            writer.known[e.order] = f"residuals[{k}]"
        if self.h_before:
            names["s0"] = "s_prev[0]"
        if self.h_after:
            writer.known[self.after.order] = "s_next[0]"
        step = self.step
        results = [(f"{d}[{g}]", e) for d, es in (("d_wx", step.dwx), ("d_rh", step.drh)) for g, e in enumerate(es)]
        results += [(f"ds_prev[{k}]", e) for k, e in enumerate(step.dstate)] + [(f"d_p[{k}]", e) for k, e in enumerate(step.dparameters)]
        return writer.statements(results)


def _given(**counts: int) -> dict[str, str]:
    arrays = {"s": "s_prev"}
    return {f"{name}{k}": f"{arrays.get(name, name)}[{k}]" for name, count in counts.items() for k in range(count)}


class _Writer:
    """Writes each expression once."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self.known: dict[int, str] = {}

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
    table = ", ".join(map(str, slots))
    return f"  THROUGHTIME_INLINE static constexpr int {name}(int g) {{ constexpr int slot[] = {{{table}}}; return slot[g]; }}"


def _function(name: str, given: str, out: str, step: Step, body: Sequence[str]) -> list[str]:
    own = ", const V* p" if step.parameters else ""
    return [
        "  template <class V>",
        f"  THROUGHTIME_INLINE static void {name}({given}{own}, {out}) {{",
        "    using T [[maybe_unused]] = typename V::Scalar;",
        *(f"    {line}" for line in body),
        "  }",
    ]


def _cpp(value: bool) -> str:
    return "true" if value else "false"
