"""A cell's step run once on small tensors: what it returns, which operators it calls from where, and what it must not do."""

import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._check import InputError
from ..._torch_private import each_operator
from ...cells import AbstractCell
from ._refused import Refused
from ._vectors import Vector, replaced


def name_of(cell: AbstractCell) -> str:
    """What messages call a cell."""
    return type(cell).__name__


def forward(cell: AbstractCell, names: Sequence[str], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The states after a step, from wx, rh, the S states, and the cell's own vectors by name; then what its late gates multiply."""
    S = cell.states
    wx, rh, *rest = tensors
    with replaced(cell, names, rest[S:]) as own:
        after = check_result(cell, own.step(wx, rh, tuple(rest[:S])), rest[0])
        early = rh[:, : cell.rh_gates - cell.late_gates]
        return (*after, between(own, wx, early, tuple(rest[:S]))) if cell.late_gates > 0 else after


def between(cell: AbstractCell, wx: Tensor, rh: Tensor, state: Sequence[Tensor]) -> Tensor:
    """What the late gates' R multiplies.

    Raises:
        InputError: not one tensor shaped as h.
    """
    q = cell.between(wx, rh, tuple(state))
    if not isinstance(q, Tensor) or q.shape != state[0].shape:
        got = f"shape {tuple(q.shape)}" if isinstance(q, Tensor) else f"a {type(q).__name__}"
        raise InputError(
            f"between of {name_of(cell)} returned {got} for B, H = {tuple(state[0].shape)}; expected one tensor (B, H), as h is."
        )
    return q


def check_result(cell: AbstractCell, after: Any, like: Tensor) -> tuple[Tensor, ...]:
    """Refuse what is not the state after a step.

    Raises:
        InputError: a result of another kind, number, shape or type.
    """
    wanted = f"a tuple of {cell.states} tensor{'s' if cell.states > 1 else ''} (B, H), the state after the step"
    if not isinstance(after, (tuple, list)) or not all(isinstance(s, Tensor) for s in after):
        raise InputError(f"step of {name_of(cell)} returned a {type(after).__name__}; expected {wanted}.")
    if len(after) != cell.states:
        raise InputError(f"step of {name_of(cell)} returned {len(after)} states; expected {wanted}, as its attribute states says.")
    for k, s in enumerate(after):
        if s.shape != like.shape:
            raise InputError(
                f"step of {name_of(cell)} returned state {k} of shape {tuple(s.shape)} for B, H = {tuple(like.shape)}; expected {wanted}."
            )
        if s.dtype != like.dtype:
            raise InputError(f"step of {name_of(cell)} returned state {k} as {s.dtype} for {like.dtype}; expected the type of its input.")
    return tuple(after)


def untraceable(cell: AbstractCell, error: Exception) -> Refused:
    """Why a step that has failed has no kernel."""
    first = str(error).strip().split("\n")[0].rstrip(".")[:200]
    data = any(
        word in f"{type(error).__name__} {error}" for word in ("DataDependent", "_local_scalar_dense", "data-dependent", "GuardOnData")
    )
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if data:
        return Refused(f"step of {name_of(cell)} chooses by the data what to compute{where}, and a kernel computes the same for every unit")
    return Refused(f"step of {name_of(cell)} cannot be traced{where}: {first}")


_RANDOM = (
    "bernoulli", "rand", "randn", "rand_like", "randn_like", "normal", "uniform", "native_dropout", "dropout", "randint", "randint_like",
    "exponential", "multinomial", "randperm", "cauchy", "geometric", "log_normal", "random",
)  # fmt: skip
_MIXING = (
    "softmax", "_softmax", "log_softmax", "_log_softmax", "native_layer_norm", "layer_norm", "mm", "bmm", "addmm", "matmul", "dot", "mv",
    "logsumexp", "cumsum", "cumprod", "sort", "topk", "amax", "amin", "prod", "var", "var_mean", "std", "roll", "gather", "index",
    "argmax", "linalg_vector_norm", "norm", "convolution", "native_group_norm", "einsum", "index_select", "cummax", "linear",
)  # fmt: skip


_FOLDERS = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[1]}{os.sep}")
_BETWEEN = ("contextlib.py", "_torch_private.py", str(Path("jaxtyping", "_decorator.py")))


class Call(NamedTuple):
    """An operator that a step calls."""

    name: str
    where: str  # file and line


def survey(cell: AbstractCell, vectors: Sequence[Vector]) -> list[Call]:
    """The operators of a step as its owner wrote them, from a run on small tensors.

    Raises:
        InputError: the step draws random numbers, or changes its input.
        Refused: it mixes units, or fails.
    """
    calls: list[Call] = []
    own = [torch.rand(7) for _ in vectors]
    tensors = [torch.rand(s) for s in [(5, cell.gates, 7), (5, cell.rh_gates, 7), *[(5, 7)] * cell.states]]
    before = [t.clone() for t in tensors]
    generator = torch.get_rng_state()
    try:
        with torch.no_grad(), each_operator(lambda name: calls.append(Call(name, _place()))):
            forward(cell, [v.name for v in vectors], [*tensors, *own])
    except (InputError, Refused):
        raise
    except Exception as error:
        raise untraceable(cell, error) from error
    finally:
        torch.set_rng_state(generator)
    _refuse_random(cell, calls)
    if not all(map(torch.equal, before, tensors)):
        _refuse_in_place(cell, calls)
    for call in calls:
        if call.name in _MIXING:
            name = call.name.removeprefix("_")
            raise Refused(f"{name} in step of {name_of(cell)} ({call.where}) mixes units, and a kernel computes each unit by itself")
    return calls


def _refuse_random(cell: AbstractCell, calls: Sequence[Call]) -> None:
    for call in calls:
        if call.name.rstrip("_") in _RANDOM:
            raise InputError(
                f"{call.name} in step of {name_of(cell)} ({call.where}) draws from a random generator, so that the way back would see "
                "other numbers than the way forward; expected a step that gives the same result every time. Draw outside, and pass them in "
                "with xs."
            )


def _refuse_in_place(cell: AbstractCell, calls: Sequence[Call]) -> None:
    call = next((c for c in calls if c.name.endswith("_")), Call("an operation", "somewhere"))
    raise InputError(
        f"{call.name} in step of {name_of(cell)} ({call.where}) changes its input in place; expected a step that leaves its input as it "
        f"is. Write {call.name.rstrip('_')} without the underscore."
    )


def _place() -> str:
    """The file and line of the step that is being computed."""
    frame = next((f for f in reversed(traceback.extract_stack(limit=40)) if _is_users(f.filename)), None)
    return f"{frame.filename}, line {frame.lineno}" if frame else "somewhere"


def _is_users(file: str) -> bool:
    """Whether a file is neither torch's nor of this package's kernels, nor of what stands between calls in both."""
    return not file.startswith((*_FOLDERS, "<")) and not file.endswith(_BETWEEN)
