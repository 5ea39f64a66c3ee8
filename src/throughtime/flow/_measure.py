"""One call measures it all: forward once, every lag back, Jacobians along the way, and what that means.

T time · B batch · L layers · K lags.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import _check
from .._check import InputError, NonFinite
from .._shapes import State
from ..data import Batch
from ..gradients import Carry, FullBPTT
from ..gradients._base import carried_state
from ..models import AbstractModel
from ._bias import LagSums
from ._flow import AdjointMap, BiasCurve, Flow, LagGradients
from ._gates import gates_of
from ._jacobians import Spectra, measure
from ._lags import LagPass
from ._map import MapBuilder
from ._trajectory import Trajectory, counts, walk, without_dropout
from ._verdict import judge


def gradient_flow(
    model: nn.Module,
    batch: Batch,
    *,
    carry: Carry | State | None = None,
    max_lag: int | None = None,
    step: int | None = None,
    stream: int = 0,
    parameters: bool = True,
    tensors: Sequence[str] = (),
    inputs: bool = True,
    jacobians: Spectra | None = Spectra(),  # noqa: B008  a frozen dataclass
    gates: bool = True,
) -> Flow:
    """Measure what the gradient of a batch's loss does through time.

    Every loss L_t is led back lag by lag, ``v_t^{k+1} = v_t^k J_{t−k}``, all of them at once: A[t, k] = ‖v_t^k‖ says how much the
    loss at t leans on the state k steps before, and g^(k) = Σ_t v_t^k ∂s_{t−k}/∂θ is the part of dL/dθ that reaches back exactly k
    steps. Σ_k g^(k) = dL/dθ is checked against ``FullBPTT`` every time; the error is in the result. Dropout is off while it is
    measured; modes, gradients and weights are left as they were.

    Args:
        model: any model of the house, any cell, any number of layers.
        batch: T steps of B streams. L_t must depend on time through h_t alone, as it does for every ``Head``.
        carry: as for a gradient method; a carried state is where the gradient stops. None: every stream starts anew.
        max_lag: the greatest lag to take apart; what lies beyond is found in one piece. None: all, back to the first step.
        step: measure the loss of this step t alone, as if the batch had no other.
        stream: which stream's own map is kept beside the mean over streams.
        parameters: find g^(k) of every parameter, and the bias curve. About two thirds of the time.
        tensors: names of parameters whose g^(k) are kept whole, (K, *shape) each.
        inputs: find ‖∂L_t/∂x_{t−k}‖.
        jacobians: which Jacobians and exponents to measure; None: none.
        gates: measure gates, saturation and half-lives.

    Returns:
        The measurement and a verdict in words.

    Raises:
        InputError: no loss, or none at ``step``; a ``max_lag`` that no loss has; a carry of another shape; names that the model lacks; more
            lags than memory holds.
        NotImplementedError: a module that is not made of the three stations.
        NonFinite: a weight, a state, a loss or the gradient is not a finite number; the message says which, and at which step first.

    References:
        Werbos, *Backpropagation through time: what it does and how to do it*, 1990. Pascanu, Mikolov & Bengio, *On the difficulty of
        training recurrent neural networks*, 2013. Aicher, Foti & Fox, *Adaptively truncating backpropagation through time to control
        gradient bias*, 2019.

    >>> import throughtime as tt
    >>> text = torch.randint(9, (13, 4))
    >>> flow = gradient_flow(tt.LanguageModel(9, hidden_size=8), tt.Batch(text[:-1], text[1:]))
    >>> flow.adjoint.joint.shape, flow.lags.error < 1e-5
    (torch.Size([12, 12]), True)
    """
    if not isinstance(model, AbstractModel):
        raise NotImplementedError(
            f"gradient_flow takes a model apart at its three stations, input, recurrence and head, and {type(model).__name__} does not "
            "name them. Put its parts into models.SequenceModel(input, recurrence, head), or models.LanguageModel for text; weights of "
            "torch.nn.RNN, GRU and LSTM load into nn.Recurrence by load_state_dict."
        )
    state = carried_state(carry, "gradient_flow")
    if state is not None:
        stack = model.recurrence
        _check.state(state, [(stack.num_layers, batch.B, stack.hidden_size)] * stack.cell.states)
    batch = batch if step is None else _only(batch, step)
    first, last, K = _reach(batch, max_lag, step)
    maps = 8 * batch.T * K * (2 + model.recurrence.num_layers + 2 * inputs)
    _check.memory(maps, f"the map of {batch.T} steps by {K} lags", "Give a max_lag: memory grows with steps times lags.")
    if not 0 <= stream < batch.B:
        raise InputError(f"stream is {stream}; expected one of the batch's, 0 to {batch.B - 1}.")
    with without_dropout(model), torch.random.fork_rng(_devices(batch)):
        trajectory = walk(model, batch, state)
    with without_dropout(model):  # from the same point of torch's generators: a random initial state is the same one
        gradient = _full_gradient(model, batch, state) if parameters else {}
    _known(tensors, gradient)
    kept = K * sum(gradient[name].nbytes for name in tensors)
    _check.memory(kept, f"{K} lags of {', '.join(tensors)}", "Give a max_lag, or fewer names in tensors.")
    with torch.no_grad():
        adjoint, lags, bias = _lags(trajectory, first, last, K, gradient, tensors, stream, inputs=inputs)
        spectra = None if jacobians is None else measure(trajectory, jacobians)
        gated = gates_of(trajectory, batch) if gates else None
    return Flow(
        cell=str(model.recurrence.cell),
        layers=model.recurrence.num_layers,
        hidden_size=model.recurrence.hidden_size,
        T=batch.T,
        B=batch.B,
        max_lag=K - 1,
        carried=state is not None,
        loss=float(trajectory.losses.sum()) * trajectory.scale,
        losses=trajectory.losses.double().cpu().where(trajectory.counted.cpu(), torch.nan),
        inputs=_symbols(batch.inputs),
        targets=_symbols(batch.targets),
        lags=lags,
        adjoint=adjoint,
        bias=bias,
        jacobians=spectra,
        gates=gated,
        verdict=judge(model.recurrence.cell, adjoint, lags, bias, spectra, gated),
    )


def _lags(
    trajectory: Trajectory,
    first: int,
    last: int,
    K: int,
    gradient: dict[str, Tensor],
    tensors: Sequence[str],
    stream: int,
    *,
    inputs: bool,
) -> tuple[AdjointMap, LagGradients, BiasCurve | None]:
    """The pass over the lags, and what is collected on it."""
    back = LagPass(trajectory, first, last, inputs=inputs, weights=bool(gradient))
    builder = MapBuilder(trajectory.counted, K, len(trajectory.layers), stream, inputs=inputs)
    sums = LagSums(gradient, {name: g * trajectory.scale for name, g in trajectory.direct.items()}, tensors)
    for lag in back.walk(K):
        builder.add(lag)
        if gradient:
            sums.add(back.gradients(lag), lag.factor * trajectory.scale)
    if not gradient:
        return builder.result(), LagGradients({}, torch.empty(0, dtype=torch.float64), {}, {}, torch.nan, {}, torch.nan), None
    if (rest := back.beyond(K)) is not None:
        sums.end(back.gradients(rest), rest.factor * trajectory.scale)
    return builder.result(), sums.lag_gradients(), sums.bias_curve()


def _full_gradient(model: AbstractModel, batch: Batch, state: State | None) -> dict[str, Tensor]:
    """dL/dθ by ``FullBPTT``, of every parameter that wants it; each ``p.grad`` stays as it was."""
    stood = [p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    try:
        FullBPTT().accumulate(model, batch, state)
        found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters() if p.requires_grad}
    finally:
        for p, grad in zip(model.parameters(), stood, strict=True):
            p.grad = grad
    for name, g in found.items():
        if not torch.isfinite(g).all():
            raise NonFinite(
                f"the gradient of {name} is not finite: it has grown beyond {g.dtype} on its way back. Measure in float64, "
                "model.double(), or a shorter batch; parameters=False measures the adjoint map alone, which cannot overflow."
            )
    return found


def _only(batch: Batch, step: int) -> Batch:
    """The batch with the loss of one step alone."""
    if not 0 <= step < batch.T:
        raise InputError(f"step is {step}; expected one of the batch's, 0 to {batch.T - 1}.")
    weights = batch.weights if batch.weights is not None else torch.ones(batch.T, batch.B, device=batch.inputs.device)
    only = torch.zeros_like(weights)
    only[step] = weights[step]
    return dataclasses.replace(batch, weights=only)


def _reach(batch: Batch, max_lag: int | None, step: int | None) -> tuple[int, int, int]:
    """The first and the last step with a loss, and how many lags to take apart."""
    steps = counts(batch).any(1).nonzero().flatten().tolist()
    if not steps:
        where = "the batch" if step is None else f"step {step}"
        raise InputError(
            f"no loss counts in {where}: its mask is False or its weights are 0 everywhere; expected at least one, to have a gradient. "
            + ("Choose another batch." if step is None else "Choose a step that the mask and the weights let stand.")
        )
    first, last = steps[0], steps[-1]
    if max_lag is None:
        return first, last, last + 1
    if isinstance(max_lag, bool) or not 0 <= max_lag <= last:
        raise InputError(
            f"max_lag is {max_lag}, but the batch's last loss stands at step {last} of 0 to {batch.T - 1}: it reaches back {last} steps at "
            f"most. Give a max_lag from 0 to {last}, None for all, or a longer batch."
        )
    return first, last, max_lag + 1


def _known(tensors: Sequence[str], gradient: dict[str, Tensor]) -> None:
    for name in tensors:
        if name not in gradient:
            raise InputError(f"tensors names {name!r}; expected some of {', '.join(gradient) or 'none, as parameters=False'}.")


def _devices(batch: Batch) -> list[torch.device]:
    return [] if batch.inputs.device.type == "cpu" else [batch.inputs.device]


def _symbols(values: Tensor) -> Tensor | None:
    return None if values.is_floating_point() or values.ndim != 2 else values.cpu()
