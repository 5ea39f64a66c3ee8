"""The extension called with anything at all: it may refuse, it never crashes, and it writes nowhere but into its results.

Every array of a call lies between guards, which must be whole afterwards. Under ``make sanitize`` reads are guarded too.
"""

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from _direct import BACKWARD, CELLS, FORWARD, arguments, call

from throughtime import _kernels

GUARD, WIDTH = 0xA5, 64  # bytes before and after every array
REFUSALS = (TypeError, ValueError, BufferError, RuntimeError, MemoryError, OverflowError)


class Guarded:
    """Arrays with guards around them."""

    def __init__(self) -> None:
        self.buffers: list[torch.Tensor] = []

    def __call__(self, a: torch.Tensor) -> torch.Tensor:
        """A copy between guards."""
        n = a.numel() * a.element_size()
        buffer = torch.full((n + 2 * WIDTH,), GUARD, dtype=torch.uint8)
        self.buffers.append(buffer)
        inside = buffer[WIDTH : WIDTH + n].view(a.dtype).view(a.shape)
        return inside.copy_(a)

    def whole(self) -> bool:
        """Whether nobody wrote beside an array."""
        return all(bool((b[:WIDTH] == GUARD).all() and (b[len(b) - WIDTH :] == GUARD).all()) for b in self.buffers)


# ---- Good calls: a function and its arguments, as a tree of tuples


def one_layer(rng: random.Random, names: list[str]) -> tuple[Callable, tuple]:
    a = arguments(names, sizes(rng), rng.choice(list(CELLS)), rng.choice([torch.float32, torch.float64]))
    a |= {"lengths": None} if rng.random() < 0.3 else {"lengths": torch.tensor([rng.randint(0, len(a["xs"])) for _ in a["lengths"]])}
    a |= {"reset": torch.rand(a["reset"].shape) < 0.3} if rng.random() < 0.6 else {"reset": None}
    a |= {"reverse": rng.random() < 0.3, "threads": rng.choice([1, 2])}
    if "clip" in a and rng.random() < 0.3:
        a["clip"] = rng.choice([0.0, 0.5, float("inf")])
    caught = []
    direction = "forward" if names is FORWARD else "backward"
    functions = {"forward": _kernels.forward, "backward": _kernels.backward}
    with pytest.MonkeyPatch.context() as m:
        m.setattr(_kernels, direction, lambda *tree: caught.append(tree))
        call(direction, a)
    return functions[direction], caught[0]


def stack(rng: random.Random) -> tuple[int, int, tuple, tuple, tuple, dict]:
    """What both directions of several layers share."""
    T, B, I, H = sizes(rng)
    cell, dtype, layers = rng.choice(list(CELLS)), rng.choice([torch.float32, torch.float64]), rng.choice([1, 2, 3])
    gates = arguments(["W"], (T, B, I, H), cell, dtype)["W"].shape[0]
    states = 2 if cell == _kernels.LSTM else 1
    make = lambda *shape: torch.rand(*shape, dtype=dtype) - 0.5
    each = lambda l: (make(gates * H, H if l else I), make(gates * H, H), make(gates * H), make(gates * H))
    weights = tuple(w for l in range(layers) for w in each(l))
    state = tuple(make(layers, B, H) for _ in range(states))
    size = _kernels.residuals_size(cell, (T, B, H), "fast", dtype == torch.float64)
    run = tuple(make(T, B, H) for _ in range(layers)), tuple(torch.zeros(size, dtype=dtype) for _ in range(layers))
    shapes = {"x": (T, B, I), "h": (T, B, H), "streams": B, "make": make, "cell": cell}
    return layers, states, (cell, make(T, B, I), state, weights, None, "fast", rng.choice([1, 2])), run, state, shapes


def forward_layers(rng: random.Random) -> tuple[Callable, tuple]:
    _, _, layer, (hs, residuals), state, _ = stack(rng)
    return _kernels.forward_layers, (layer, (hs, tuple(map(torch.clone, state)), residuals))


def backward_layers(rng: random.Random) -> tuple[Callable, tuple]:
    layers, _, layer, run, state, s = stack(rng)
    between = tuple(s["make"](*s["h"]) for _ in range(min(2, layers - 1)))
    results = (s["make"](*s["x"]), tuple(map(torch.clone, state)), tuple(map(torch.clone, layer[3])), None, between)
    return _kernels.backward_layers, (layer, run, (s["make"](*s["h"]), tuple(map(torch.clone, state))), results)


def steps(rng: random.Random) -> tuple[Callable, tuple]:
    _, _, layer, _, state, s = stack(rng)

    def some(cell, weights, streams, threads, x, y, kept) -> None:
        stepper = _kernels.Steps(cell, weights, streams, threads)
        stepper.step(x, y)
        stepper.write_state(kept)
        stepper.step(x, y)
        stepper.read_state(kept)

    return some, (s["cell"], layer[3], s["streams"], layer[6], s["make"](*s["x"][1:]), s["make"](*s["h"][1:]), state)


def cross_entropy(rng: random.Random) -> tuple[Callable, tuple]:
    N, V, dtype = rng.randint(1, 9), rng.choice([1, 2, 7, 16, 33]), rng.choice([torch.float32, torch.float64])
    targets = torch.tensor([rng.randrange(V) for _ in range(N)])
    scale = rng.choice([None, torch.rand(N, dtype=dtype)])
    logits, losses = torch.rand(N, V, dtype=dtype), torch.zeros(N, dtype=dtype)
    return _kernels.cross_entropy, ((logits, targets, scale, losses, rng.random() < 0.5, rng.choice([1, 2]), None),)


def function(rng: random.Random) -> tuple[Callable, tuple]:
    x = torch.rand(rng.randint(0, 70), dtype=rng.choice([torch.float32, torch.float64]))
    return rng.choice([_kernels.tanh, _kernels.sigmoid]), (x, torch.zeros_like(x), None)


def of_sizes(rng: random.Random) -> tuple[Callable, tuple]:
    cell, keep = rng.choice(list(CELLS)), rng.choice(["fast", "lean", "none"])
    if rng.random() < 0.5:
        return _kernels.residuals_size, (cell, tuple(extent(rng) for _ in range(3)), keep, rng.random() < 0.5, None)
    return _kernels.scratch_size, (cell, tuple(extent(rng) for _ in range(4)), keep, rng.random() < 0.5, rng.choice([1, 2]))


def sizes(rng: random.Random) -> tuple[int, int, int, int]:
    """Small ones, beside and on the borders of tiles and vectors."""
    return rng.randint(1, 4), rng.choice([1, 2, 3, 8, 9]), rng.choice([1, 3, 8]), rng.choice([1, 5, 8, 16, 17, 33])


def extent(rng: random.Random) -> int:
    return rng.choice([1, 3, 64, 2**20, 2**31, 2**40, 2**62, 2**63 - 1])


GOOD = {
    "forward": lambda rng: one_layer(rng, FORWARD),
    "backward": lambda rng: one_layer(rng, BACKWARD),
    "forward_layers": forward_layers,
    "backward_layers": backward_layers,
    "steps": steps,
    "cross_entropy": cross_entropy,
    "function": function,
    "of_sizes": of_sizes,
}

# ---- Spoiling them


class Hostile:
    """Says that it is an array, and is none."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def __dlpack__(self, **_: object) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def paths(tree: object, here: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Every place of a tree, but its root."""
    if here:
        yield here
    if isinstance(tree, tuple):
        for k, branch in enumerate(tree):
            yield from paths(branch, (*here, k))


def at(tree: object, path: tuple[int, ...]) -> object:
    for k in path:
        tree = tree[k]
    return tree


def replaced(tree: object, path: tuple[int, ...], by: object) -> object:
    if not path:
        return by
    return (*tree[: path[0]], replaced(tree[path[0]], path[1:], by), *tree[path[0] + 1 :])


def over(a: torch.Tensor, other: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """An array like ``a`` in the memory of another, where that is large enough; else the other."""
    n, memory = a.numel() * a.element_size(), other.contiguous().flatten().view(torch.uint8)
    places = (len(memory) - n) // 8
    start = 8 * rng.randint(0, places) if places >= 0 else -1
    return memory[start : start + n].view(a.dtype).view(a.shape) if start >= 0 else other


def spoiled_array(a: torch.Tensor, others: list[torch.Tensor], rng: random.Random) -> object:
    fixed = a.numpy().copy()
    fixed.flags.writeable = False
    twice = torch.zeros([2 * n for n in a.shape], dtype=a.dtype)
    kinds = [
        lambda: None, lambda: 7, lambda: "text", lambda: a.numpy(), lambda: fixed, lambda: a.numpy()[::-1], lambda: a.numpy().astype(">f4"),
        lambda: a.to(rng.choice([torch.float16, torch.bfloat16, torch.int32, torch.int64, torch.float64, torch.complex64, torch.bool])),
        lambda: twice[tuple(slice(None, None, 2) for _ in a.shape)], lambda: torch.zeros(1, dtype=a.dtype).expand(a.shape),
        lambda: torch.zeros(1, dtype=a.dtype).expand(2**40, *a.shape[1:]), lambda: a[None], lambda: a.flatten(), lambda: a.flatten()[:-1],
        lambda: a[:0], lambda: a.mT if a.ndim > 1 else a[:0], lambda: torch.empty(0), lambda: a.new_empty([1] * 40), lambda: a.to("meta"),
        lambda: a.to_sparse(), lambda: a.clone().requires_grad_() if a.is_floating_point() else a, lambda: rng.choice(others),
        lambda: over(a, rng.choice(others), rng), lambda: Hostile(ValueError("no")), lambda: Hostile(None), lambda: Hostile(object()),
        lambda: a.clone().fill_(rng.choice([float("nan"), float("inf"), -float("inf"), 1e38]) if a.is_floating_point() else rng.choice([-1, 1])),
        lambda: torch.full_like(a, 2**62) if a.dtype == torch.int64 else a, lambda: memoryview(a.numpy().tobytes()),
        lambda: np.zeros(a.shape, "f4,f4"), lambda: np.array(None, dtype=object),
    ]  # fmt: skip
    return rng.choice(kinds)()


def spoiled(leaf: object, others: list[torch.Tensor], rng: random.Random) -> object:
    """Something else in its place."""
    if isinstance(leaf, torch.Tensor):
        return spoiled_array(leaf, others, rng)
    if isinstance(leaf, tuple):
        return rng.choice([list(leaf), leaf[:-1], (*leaf, None), None, (), leaf[::-1], "text"])
    anything = [None, -1, 0, 1, 17, 2**31, 2**40, 2**70, 1.5, float("nan"), True, "", "lean", "none", "vax", "\0", b"fast", (), object()]
    return rng.choice([*anything, *others[:1]])


def refusal(function: Callable, tree: tuple) -> str | None:
    """What a call was refused with; None: it was not."""
    try:
        function(*tree)
    except REFUSALS as error:
        return str(error)
    return None


def examples(name: str, seeds: range) -> None:
    for seed in seeds:
        rng = random.Random(f"{name} {seed}")
        torch.manual_seed(seed)
        function, tree = GOOD[name](rng)
        guarded = Guarded()
        for path in paths(tree):
            if isinstance(at(tree, path), torch.Tensor):
                tree = replaced(tree, path, guarded(at(tree, path)))
        arrays = [a for path in paths(tree) if isinstance(a := at(tree, path), torch.Tensor)] or [torch.zeros(3)]
        for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
            path = rng.choice(list(paths(tree)))
            leaf = at(tree, path)
            if not isinstance(leaf, torch.Tensor) or any(leaf is a for a in arrays):  # not spoilt yet
                tree = replaced(tree, path, spoiled(leaf, arrays, rng))
        assert refusal(function, tree) != "", f"{name}, seed {seed}: a refusal without a word"
        assert guarded.whole(), f"{name}, seed {seed}: written beside an array"


@pytest.mark.parametrize("name", GOOD)
def test_anything(name):
    examples(name, range(150))


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_very_much_of_anything(name):
    examples(name, range(150, 15_000))


@pytest.mark.parametrize("name", [n for n in GOOD if n != "of_sizes"])
def test_the_good_calls_are_good(name):
    for seed in range(10):
        function, tree = GOOD[name](random.Random(seed))
        function(*tree)


def test_a_write_beside_an_array_is_noticed():
    guarded = Guarded()
    a = guarded(torch.zeros(3))
    assert guarded.whole()
    a.as_strided((4,), (1,))[3] = 1
    assert not guarded.whole()
