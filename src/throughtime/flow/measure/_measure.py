"""One measurement: forward once, every lag back, Jacobians and gates along the way.

T time · B batch · L layers · K lags.
"""

import math

import torch
from torch import Tensor

from ... import _check
from ..._check import InputError, NonFinite
from ...data import Batch
from ...models import CrossEntropy, Softmax
from ._bias import LagSums
from ._gates import gates_of
from ._gradients import full_gradient
from ._jacobians import spectra_of
from ._lags import LagPass
from ._map import MapBuilder
from ._problem import Problem
from ._results import AdjointMap, BiasCurve, LagGradients, Measurement
from ._traced import Traced, trace_batch, without_dropout
from ._windows import gradient_as_trained, with_windows


def measure(problem: Problem) -> Measurement:
    """Everything that was asked for.

    Raises:
        NonFinite: a weight, a state, a loss or the gradient is not a finite number.
    """
    model, batch, asked = problem.model, problem.batch, problem.asked
    with without_dropout(model):
        # All from the same point of torch's generators: a random initial state is the same one.
        with torch.random.fork_rng(_devices(batch)):
            traced = trace_batch(model, batch, problem.state)
        with torch.random.fork_rng(_devices(batch)):
            own = gradient_as_trained(problem) if asked.parameters else None
        gradient = full_gradient(problem) if asked.parameters else {}
        _check_tensors(problem, gradient)
        with torch.no_grad():
            adjoint, lags, bias = _by_lag(problem, traced, gradient)
        bias = None if bias is None else with_windows(bias, problem, traced, gradient, own)
    with torch.no_grad():
        return Measurement(
            cell=model.recurrence.cell,
            carried=problem.state is not None,
            loss=float(traced.losses.sum()) * traced.scale,
            losses=traced.losses.double().cpu().where(traced.counted.cpu(), torch.nan),
            guess=_guess(problem, traced),
            lags=lags,
            adjoint=adjoint,
            bias=bias,
            jacobians=None if asked.jacobians is None else spectra_of(traced, asked.jacobians),
            gates=gates_of(traced, batch) if asked.gates else None,
        )


def _by_lag(problem: Problem, traced: Traced, gradient: dict[str, Tensor]) -> tuple[AdjointMap, LagGradients, BiasCurve | None]:
    """The pass over the lags, and what is collected on it."""
    asked, K = problem.asked, problem.K
    back = LagPass(traced, problem.first, problem.last, inputs=asked.inputs, weights=bool(gradient))
    builder = MapBuilder(traced.counted, K, len(traced.layers), asked.stream, inputs=asked.inputs)
    sums = LagSums(gradient, {name: g * traced.scale for name, g in traced.direct.items()}, asked.tensors)
    for lag in back.walk(K):
        builder.add(lag)
        if gradient:
            sums.add(back.gradients(lag), lag.factor * traced.scale)
        elif builder.overflows(lag):
            K = lag.k
            break
    if K == 0:
        raise NonFinite("∂L/∂h is not a finite number, at the very step of the loss. Start the head from smaller weights.")
    if not gradient:
        return builder.result(K), LagGradients({}, torch.empty(0, dtype=torch.float64), {}, {}, torch.nan, {}, torch.nan), None
    if (rest := back.beyond(K)) is not None:
        sums.end(back.gradients(rest), rest.factor * traced.scale)
    return builder.result(K), sums.lag_gradients(), sums.bias_curve()


def _guess(problem: Problem, traced: Traced) -> float | None:
    """ln V for every loss that counts, weighed and scaled as they are; of a softmax with cross-entropy over V outputs."""
    head, batch = problem.model.head, problem.batch
    if not (isinstance(head.output, Softmax) and isinstance(head.loss, CrossEntropy)):
        return None
    counted = traced.counted
    weight = float(counted.sum()) if batch.weights is None else float(batch.weights[counted].sum())
    return math.log(head.weight.shape[0]) * weight * traced.scale


def _check_tensors(problem: Problem, gradient: dict[str, Tensor]) -> None:
    """The names whose parts are to be kept whole: known ones, and few enough for the memory."""
    names = problem.asked.tensors
    for name in names:
        if name not in gradient:
            raise InputError(f"tensors names {name!r}; expected some of {', '.join(gradient) or 'none, as parameters=False'}.")
    kept = problem.K * sum(gradient[name].nbytes for name in names)
    _check.memory(kept, f"{problem.K} lags of {', '.join(names)}", "Give a max_lag, or fewer names in tensors.")


def _devices(batch: Batch) -> list[torch.device]:
    return [] if batch.inputs.device.type == "cpu" else [batch.inputs.device]
