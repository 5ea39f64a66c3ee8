"""What the way forward keeps for the way back: the cheapest choice, by a minimum cut.

The way back needs some numbers of the way forward. Each can be kept, which costs a store and a load, or computed again from its operands,
which are then needed themselves. A choice costs the sum of both; the least is a minimum cut of this graph, which has two vertices
for each number e ("needed", n_e, and "computed again", a_e):

    source → n_e                   ∞        if the way back uses e
    n_e → a_e                      the price of keeping e
    a_e → sink                     the price of computing e again
    a_e → n_f                      ∞        for every operand f of e

(Jain et al., *Checkmate*, 2020, and torch's own partitioner use the same idea for whole networks.)
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from ._expressions import OPERATIONS, Expression, needed

KEEP = 18  # the price of a store and a load, in additions: LSTM is as fast with tanh(c) computed again, and keeps a sixth less
H_BEFORE, H_AFTER = 1, 2  # the price of reading h before and after the step, which are in memory anyway
FOREVER = 10**9


def choose(
    back: Iterable[Expression], is_forward: Callable[[Expression], bool], price: Callable[[Expression], int | None]
) -> list[Expression]:
    """The numbers of the way forward that are best kept.

    Args:
        back: what the way back computes.
        is_forward: whether an expression is a number of the way forward.
        price: of keeping a number; None if it is at hand for nothing.
    """
    wanted = _boundary(back, is_forward)
    capacity: dict[object, dict[object, int]] = defaultdict(lambda: defaultdict(int))
    for e in needed(wanted):
        if (keep := price(e)) is None:
            continue
        capacity["needed", e.order]["again", e.order] = keep
        capacity["again", e.order]["sink"] = _again(e)
        for f in e.arguments:
            if price(f) is not None:
                capacity["again", e.order]["needed", f.order] = FOREVER
    for e in wanted:
        if price(e) is not None:
            capacity["source"]["needed", e.order] = FOREVER
    reached = _reached_after_flow(capacity)
    every = {e.order: e for e in needed(wanted)}
    return [e for k, e in every.items() if ("needed", k) in reached and ("again", k) not in reached]


def _again(e: Expression) -> int:
    return FOREVER if e.operation == "input" else OPERATIONS[e.operation].cost


def _boundary(back: Iterable[Expression], is_forward: Callable[[Expression], bool]) -> list[Expression]:
    """The numbers of the way forward that the way back uses directly."""
    found = needed(back, stop=is_forward)
    return [e for e in found if is_forward(e) and not e.is_number]


def _reached_after_flow(capacity: dict[object, dict[object, int]]) -> set[object]:
    """The vertices on the source's side of a minimum cut (Edmonds & Karp 1972)."""
    while True:
        came: dict[object, object] = {"source": None}
        queue = deque(["source"])
        while queue and "sink" not in came:
            u = queue.popleft()
            for v, room in list(capacity[u].items()):
                if room > 0 and v not in came:
                    came[v] = u
                    queue.append(v)  # type: ignore[arg-type]
        if "sink" not in came:
            return set(came)
        path = []
        v: object = "sink"
        while came[v] is not None:
            path.append((came[v], v))
            v = came[v]
        flow = min(capacity[u][v] for u, v in path)
        for u, v in path:
            capacity[u][v] -= flow
            capacity[v][u] += flow
