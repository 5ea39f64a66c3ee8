"""One call measures it all and says what it means."""

from collections.abc import Sequence

from torch import Tensor, nn

from .._shapes import State
from ..data import Batch
from ..gradients import Carry
from ._closely import Closely, closely
from ._flow import Flow
from .measure import Asked, Problem, Spectra, TrainedBy
from .verdict import judge


def gradient_flow(
    model: nn.Module,
    batch: Batch,
    *,
    carry: Carry | State | None = None,
    max_lag: int | None = None,
    step: int | None = None,
    stream: int = 0,
    parameters: bool = True,
    windows: bool = True,
    tensors: Sequence[str] = (),
    inputs: bool = True,
    jacobians: Spectra | None = Spectra(),  # noqa: B008  a frozen dataclass
    gates: bool = True,
    trained_by: TrainedBy | None = None,
) -> Flow:
    """Measure what the gradient of a batch's loss does through time.

    Every loss L_t is led back lag by lag, ``v_t^{k+1} = v_t^k J_{t−k}``, all of them at once: A[t, k] = ‖v_t^k‖ says how much the
    loss at t leans on the state k steps before, and g^(k) = Σ_t v_t^k ∂s_{t−k}/∂θ is the part of dL/dθ that reaches back exactly k
    steps. Σ_k g^(k) = dL/dθ is checked against ``FullBPTT`` every time; the error is in the result. Where it does not hold to 1e-4, or
    a number has grown beyond the model's type, all is measured again in float64, and ``again`` says why. Dropout is off while it is
    measured; modes, gradients and weights are left as they were.

    Args:
        model: any model of the house, any cell, any number of layers.
        batch: T steps of B streams. L_t must depend on time through h_t alone, as it does for every ``Head``.
        carry: as for a gradient method; a carried state is where the gradient stops. None: every stream starts anew.
        max_lag: the greatest lag to take apart; what lies beyond is found in one piece. None: all, back to the first step.
        step: measure the loss of this step t alone, as if the batch had no other.
        stream: which stream's own map is kept beside the mean over streams.
        parameters: find g^(k) of every parameter, and the bias curve. About two thirds of the time.
        windows: find what chunks and overlapping windows would miss, beside sliding ones; needs ``parameters``. About a tenth of the time.
        tensors: names of parameters whose g^(k) are kept whole, (K, *shape) each.
        inputs: find ‖∂L_t/∂x_{t−k}‖.
        jacobians: which Jacobians and exponents to measure; None: none.
        gates: measure gates, saturation and half-lives.
        trained_by: how the network is trained, to measure what that misses of this batch's gradient; None: not measured.

    Returns:
        The measurement and a verdict in words.

    Raises:
        InputError: no loss, or none at ``step``; a ``max_lag`` that no loss has; a carry of another shape; names that the model lacks; more
            lags than memory holds.
        NotImplementedError: a module that is not made of the three stations.
        NonFinite: a weight is not a finite number, or in float64 a state or a loss is none; the message says which, and at which
            step first.

    References:
        Werbos, *Backpropagation through time: what it does and how to do it*, 1990. Pascanu, Mikolov & Bengio, *On the difficulty of
        training recurrent neural networks*, 2013. Aicher, Foti & Fox, *Adaptively truncating backpropagation through time to control
        gradient bias*, 2019.

    >>> import torch
    >>> import throughtime as tt
    >>> text = torch.randint(9, (13, 4))
    >>> flow = gradient_flow(tt.LanguageModel(9, hidden_size=8), tt.Batch(text[:-1], text[1:]))
    >>> flow.adjoint.joint.shape, flow.lags.error < 1e-5
    (torch.Size([12, 12]), True)
    """
    asked = Asked(max_lag, step, stream, parameters, windows, tuple(tensors), inputs, jacobians, gates, trained_by)
    problem = Problem.of(model, batch, carry, asked)
    return _flow(problem, closely(problem))


def _flow(problem: Problem, close: Closely) -> Flow:
    """What was measured, of what, and in words."""
    found = close.found
    stack, batch = problem.model.recurrence, problem.batch
    return Flow(
        cell=str(stack.cell),
        layers=stack.num_layers,
        hidden_size=stack.hidden_size,
        T=batch.T,
        B=batch.B,
        max_lag=len(found.adjoint.profile) - 1,
        carried=found.carried,
        loss=found.loss,
        losses=found.losses,
        inputs=_symbols(batch.inputs),
        targets=_symbols(batch.targets),
        lags=found.lags,
        adjoint=found.adjoint,
        bias=found.bias,
        jacobians=found.jacobians,
        gates=found.gates,
        verdict=judge(found, overflows=close.overflows),
        guess=found.guess,
        precision=close.precision,
        again=close.again,
    )


def _symbols(values: Tensor | None) -> Tensor | None:
    return None if values is None or values.is_floating_point() or values.ndim != 2 else values.cpu()
