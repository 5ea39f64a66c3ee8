"""The extension's packed, fused CPU kernels: the same two functions as the plain loop, for the cells of ``_table`` and for one's own.

T time · B batch · I input · H hidden · G gates · S states.
"""

import logging
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .._check import InputError
from .._shapes import State
from ..cells import AbstractCell
from . import generated
from ._table import known
from ._types import FORWARD, Gradients, LayerParameters, Run, Start, Traversal, flat

_missing: str | None = None  # why there is no extension; every caller checks it first
_wrong_architecture: str | None = None  # what is wrong with THROUGHTIME_ARCH
if TYPE_CHECKING:
    from .. import _kernels
else:
    try:
        import throughtime._kernels as _kernels
    except ImportError as error:  # built without a compiler, or for another machine
        _missing = f"the extension is not there ({error}); reinstall with a C++20 compiler (GCC 12, Clang 16 or newer) at hand to have it"
    else:
        try:
            _kernels.architecture()
        except ValueError as error:
            _wrong_architecture = str(error)

Keep = Literal["fast", "lean", "none"]
Sizes = tuple[int | torch.SymInt, int | torch.SymInt, int | torch.SymInt]


def architecture() -> str:
    """The instruction set that the kernels use on this machine: "baseline", "avx2", "avx512" or "neon"."""
    _check_architecture()
    return _kernels.architecture()


def architectures() -> list[str]:
    """Every instruction set that this machine can run."""
    return _kernels.architectures()


def is_there() -> bool:
    """Whether there is an extension, and one that serves this machine."""
    _check_architecture()
    return _missing is None


@cache
def tell_once() -> None:
    """Where there is no extension, say so at the first use: everything works, and nothing else would tell why it is slow."""
    if _missing is not None:
        logging.getLogger("throughtime").warning("throughtime runs the plain loop, which is right and slow: %s.", _missing)


def supports(cell: AbstractCell, xs: Tensor) -> str | None:
    """Why these kernels do not support ``cell`` on ``xs``; None if they do."""
    _check_architecture()
    if _missing is not None:
        return _missing
    if xs.device.type != "cpu":
        return f"the input is on {xs.device}; the kernels run on the CPU"
    if xs.dtype not in (torch.float32, torch.float64):
        return f"the input is {xs.dtype}; the kernels are for float32 and float64"
    return None if known(cell) is not None else generated.why_not(cell, xs.dtype) or None  # compiled here, at its first use


def forward(
    cell: AbstractCell,
    xs: Tensor,
    state: State,
    parameters: LayerParameters,
    traversal: Traversal = FORWARD,
    *,
    keep: Keep = "fast",
    clean: bool = False,
    threads: int | None = None,
    arch: str | None = None,
) -> Run:
    """Step through ``xs`` (T, B, I) from ``state``, S tensors (B, H).

    ``keep``: the residuals for ``backward``: the gates ("fast"), enough to recompute them ("lean"), or nothing ("none").
    ``clean``: residuals that the kernels do not write (padding, finished sequences) are 0, so that residuals can be compared.
    ``threads``: None follows ``torch.get_num_threads()``.
    """
    call, run = forward_call(cell, xs, Start(state, parameters, traversal), keep, threads, arch, clean)
    _kernels.forward(*call)
    return run


def forward_call(
    cell: AbstractCell, xs: Tensor, layer: Start, keep: Keep, threads: int | None, arch: str | None = None, clean: bool = False
) -> tuple[tuple[object, object], Run]:
    """The arguments of the extension's ``forward``, and the run that it will have filled. ``run_forward`` takes those of several layers."""
    state, parameters, traversal = layer
    (T, B), H = xs.shape[:2], state[0].shape[-1]
    xs, state = xs.contiguous(), tuple(s.contiguous() for s in state)
    hs = xs.new_empty(T, B, H)
    last = tuple(xs.new_empty(B, H) for _ in state)
    new = xs.new_zeros if clean else xs.new_empty
    size = residual_numbers(cell, xs.dtype, (T, B, H), keep, arch)
    residuals = new(size) if size else None  # the simple network's output is enough
    vectors = _own_vectors(cell, H, xs)
    call = _call(cell, xs, state, parameters, vectors, traversal, keep, threads, arch), (hs, last, residuals)
    kept = (v for v in (*vectors, residuals) if v is not None)
    return call, Run(hs, last, (*state, *kept), "packed")


def backward(
    cell: AbstractCell,
    xs: Tensor,
    parameters: LayerParameters,
    run: Run,
    dhs: Tensor | None,
    dlast: tuple[Tensor | None, ...] | None,
    traversal: Traversal = FORWARD,
    *,
    clip: float | None = None,
    needs_dxs: bool = True,
    keep: Keep = "fast",
    threads: int | None = None,
    arch: str | None = None,
) -> Gradients:
    """The recursion of the plain loop. ``keep`` and ``arch`` must be those of the forward call."""
    call, d = backward_call(
        cell, xs, parameters, run, dhs, dlast, traversal, clip=clip, needs_dxs=needs_dxs, keep=keep, threads=threads, arch=arch
    )
    _kernels.backward(*call)
    return d


def backward_call(
    cell: AbstractCell,
    xs: Tensor,
    parameters: LayerParameters,
    run: Run,
    dhs: Tensor | None,
    dlast: tuple[Tensor | None, ...] | None,
    traversal: Traversal,
    *,
    clip: float | None,
    needs_dxs: bool,
    keep: Keep,
    threads: int | None,
    arch: str | None = None,
) -> tuple[tuple[object, ...], Gradients]:
    """The arguments of the extension's ``backward``, and the gradients that it will have filled."""
    xs = xs.contiguous()
    state, rest = run.residuals[: cell.states], list(run.residuals[cell.states :])
    vectors = () if known(cell) is not None else (rest.pop(0) if generated.known(cell).names else None,)
    residuals = rest[0] if rest else None
    dxs = _like(xs) if needs_dxs else None
    dstate = tuple(map(_like, state))
    drestart = None if traversal.restart is None else tuple(map(_like, traversal.restart))
    d = parameters.map(_like)
    own = _vector_gradients(cell, state[0])
    call = (
        _call(cell, xs, state, parameters, vectors, traversal, keep, threads, arch),
        (run.hs, residuals),
        (_contiguous(dhs), None if dlast is None else _dense(dlast), clip),
        (dxs, dstate, (*flat(d), *own), drestart),
    )
    return call, Gradients(dxs, dstate, d, drestart, *own)


def run_forward(calls: Sequence[object]) -> None:
    """Several layers, each over the output of the one before; they take turns in time where the batch is small."""
    _kernels.forward_stack(tuple(calls))


def run_backward(calls: Sequence[object]) -> None:
    """The same layers, from the last to the first."""
    _kernels.backward_stack(tuple(calls))


def _vector_gradients(cell: AbstractCell, like: Tensor) -> tuple[Tensor | None, ...]:
    """Where the gradients of the learned vectors of one's own cell go, (L, H) or None. Nothing for a cell of the table."""
    if known(cell) is not None:
        return ()
    learned = generated.known(cell).source.learned
    return (like.new_empty(learned, like.shape[-1]) if learned else None,)


def forward_layers(call: tuple[object, ...], results: tuple[object, ...]) -> None:
    """Several layers with weights as torch stores them (``_several``); the extension's own docstring lists the arguments."""
    _kernels.forward_layers(call, results)


def backward_layers(call: tuple[object, ...], run: object, arriving: object, results: tuple[object, ...]) -> None:
    """The same layers backward."""
    _kernels.backward_layers(call, run, arriving, results)


def steps(cell: AbstractCell, weights: tuple[Tensor | None, ...], streams: int, threads: int) -> "_kernels.Steps":
    """Layers that keep their packed weights and their state from step to step."""
    return _kernels.Steps(number_of(cell), weights, streams, threads)


def states(cell: AbstractCell, state: State, run: Run) -> State:
    """All states h and c of an LSTM's run forward in time, S tensors (T + 1, B, H), from its ``hs`` and gates."""
    assert cell.states == 2, "the other cells have h alone"
    (T, B, H), gates = run.hs.shape, run.residuals[cell.states]
    numbers = 5  # csrc/cells/lstm.hpp keeps i, f, g, o and the c before the step
    width = int(residual_numbers(cell, run.hs.dtype, (1, 1, 1), "fast")) // numbers
    i, f, g, _, c = gates.view(T, -1, B, numbers, width).permute(3, 0, 2, 1, 4).flatten(3)[..., :H]
    after = torch.addcmul(i * g, f, c)  # lstm.hpp (5)
    return torch.cat((state[0].unsqueeze(0), run.hs)), torch.cat((state[1].unsqueeze(0), after))


def residual_numbers(cell: AbstractCell, dtype: torch.dtype, shape: Sizes, keep: Keep, arch: str | None = None) -> int | torch.SymInt:
    """How many numbers ``forward`` keeps as residuals, for ``shape`` (T, B, H); T and B may be symbols if the gates are kept."""
    if keep == "none":
        return 0
    return numbers_kept(number_of(cell, dtype, arch), dtype, shape, keep, arch)


def numbers_kept(
    number: int, dtype: torch.dtype, shape: Sizes, keep: Literal["fast", "lean"], arch: str | None = None
) -> int | torch.SymInt:
    """The same of a cell by the extension's number."""
    (T, B, H), float64 = shape, dtype == torch.float64
    if keep == "fast":
        return T * B * _gates_kept(number, int(H), float64, arch)
    return _kernels.residuals_size(number, (int(T), int(B), int(H)), keep, float64, arch)


@lru_cache(maxsize=4096)
def _gates_kept(kind: int, H: int, float64: bool, arch: str | None) -> int:
    """Of one step of one sequence."""
    return _kernels.residuals_size(kind, (1, 1, H), "fast", float64, arch)


def has_cross_entropy(o: Tensor) -> bool:
    """Whether ``cross_entropy`` supports these logits."""
    _check_architecture()
    return _missing is None and o.device.type == "cpu" and o.dtype in (torch.float32, torch.float64)


def cross_entropy(o: Tensor, targets: Tensor, g: Tensor | None, *, gradient: bool, threads: int) -> Tensor:
    """(N,) losses of contiguous logits ``o`` (N, V). With ``gradient``, (softmax − one-hot) · g overwrites the logits."""
    losses = o.new_empty(o.shape[0])
    _kernels.cross_entropy((o, targets.contiguous(), _contiguous(g), losses, gradient, threads, None))
    return losses


def _check_architecture() -> None:
    """Raise at the first use rather than at import, so that the package loads and ``set_kernels("plain")`` works."""
    if _wrong_architecture is not None:
        raise InputError(_wrong_architecture)


def number_of(cell: AbstractCell, dtype: torch.dtype = torch.float32, arch: str | None = None) -> int:
    """The extension's number for a cell; for one's own cell also of the type and the architecture."""
    if (row := known(cell)) is not None:
        return getattr(_kernels, row.name.upper())
    number = generated.number(generated.known(cell), dtype, arch)
    assert isinstance(number, int), f"callers have asked supports(): {number}"
    return number


def _own_vectors(cell: AbstractCell, H: int, like: Tensor) -> tuple[Tensor | None, ...]:
    """What follows the weights of one's own cell: its own vectors (P, H) or None. Nothing for a cell of the table."""
    if known(cell) is not None:
        return ()
    return (generated.own_vectors(cell, generated.known(cell).names, H, like),)


def _call(
    cell: AbstractCell,
    xs: Tensor,
    state: State,
    parameters: LayerParameters,
    vectors: tuple[Tensor | None, ...],
    traversal: Traversal,
    keep: Keep,
    threads: int | None,
    arch: str | None,
) -> tuple[object, ...]:
    """The arguments that forward and backward share."""
    weights = (*map(_contiguous, flat(parameters)), *vectors)
    restart = None if traversal.restart is None else _dense(traversal.restart)
    lengths, reset = _contiguous(traversal.lengths), _contiguous(traversal.reset)
    number = number_of(cell, xs.dtype, arch)
    return number, xs, state, weights, lengths, reset, restart, traversal.reverse, keep, threads or torch.get_num_threads(), arch


def _contiguous(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()


def _like(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.contiguous_format)


def _dense(state: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(map(_contiguous, state))
