"""What is measured of the gradient's way through time: every number with its shape, its unit and its meaning.

T time · B batch · G gates · H hidden · S states · L layers · K lags · Q quantiles · N samples · M spans · E exponents.

Steps t and lags k count from 0: a loss at step t is led back k steps to step t − k ≥ 0. A window of K steps holds the lags 0 … K − 1.
Every tensor is float64 on the CPU; NaN stands where there is nothing to measure. Losses are in nats where the model's are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jaxtyping import Float, Shaped
from torch import Tensor

from ...cells import AbstractCell

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEVELS = (0.1, 0.01, 0.001)
CLOSES = LEVELS[-1] / 10  # an error of the sum beyond this could be seen in the least bias that is told


@final
@dataclass(frozen=True, eq=False)
class LagGradients:
    """g^(k): the part of dL/dθ that reaches back exactly k steps, L the batch's loss as the model scales it.

    The head, and whatever else acts on a loss without passing through time, is counted at lag 0. A state before the first step that
    is a parameter is counted with the step that it enters, as an input is: the loss at t reaches it at lag t.

    Attributes:
        norms: parameter name → (K,) ‖g^(k)‖, one number a lag, in loss per unit of the parameter. Empty where not asked for.
        total: (K,) the same of all parameters together. Empty (0,) where not asked for.
        tensors: parameter name → (K, *shape) g^(k) itself, for those that were asked for.
        gradient: parameter name → ‖dL/dθ‖, by ``FullBPTT``.
        gradient_norm: ‖dL/dθ‖ of all parameters together.
        beyond: parameter name → the norm of the part at lags K and more; 0 where K covers all.
        error: ‖Σ_k g^(k) + beyond − dL/dθ‖ / ‖dL/dθ‖, the check that is made every time; dL/dθ by ``FullBPTT``. NaN where not asked for.
    """

    norms: Mapping[str, Float[Tensor, " K"]]
    total: Float[Tensor, " K_or_0"]
    tensors: Mapping[str, Tensor]
    gradient: Mapping[str, float]
    gradient_norm: float
    beyond: Mapping[str, float]
    error: float

    @property
    def closes(self) -> bool:
        """Whether the parts add up to the whole gradient closely enough for every bias that is told; true where it was not asked for."""
        return not len(self.total) or self.error <= CLOSES


@final
@dataclass(frozen=True, eq=False)
class AdjointMap:
    """A[t, k] = ‖∂L_t/∂s_{t−k}‖ per stream: how much the loss at t leans on what the network held k steps before.

    L_t is one stream's own m w ℓ at step t, not scaled by the batch: it does not depend on T or B. Euclidean norms over the units of all
    S states. ``mean over streams`` is over those that have a loss at t.

    Attributes:
        joint: (T, K) mean over streams of the norm in the joint state of all layers after step t − k, every part of it held apart:
            at lag 0 only the top layer's h counts.
        layers: (L, T, K) the same of one layer's state, by every path, also up through the layers above within the step: what
            ``torch.autograd.grad`` gives for that layer's output. With one layer it is ``joint``.
        inputs: (T, K) the same for x_{t−k}, the vector that enters the first layer. None where not asked for.
        stream: which stream the two below are of.
        stream_joint: (T, K) that stream's own ``joint``, no mean.
        stream_inputs: (T, K) that stream's own ``inputs``. None where not asked for.
        profile: (K,) mean of ``joint`` over t and streams: over every (t, b) with a loss and t ≥ k.
        quantiles: (Q, K) quantiles of the same numbers, at the levels ``levels``.
        layer_profiles: (L, K) as ``profile``, of each layer.
        input_profile: (K,) as ``profile``, of the inputs. None where not asked for.
        counts: (K,) how many (t, b) each lag's mean is over.
        border: (T,) mean over streams of ‖∂L_t/∂s‖, s the joint state before the batch's first step: what a carried state would have been
            told, had the gradient not stopped there. NaN where the loss at t is farther than K − 1 steps from it.
    """

    joint: Float[Tensor, "T K"]
    layers: Float[Tensor, "L T K"]
    inputs: Float[Tensor, "T K"] | None
    stream: int
    stream_joint: Float[Tensor, "T K"]
    stream_inputs: Float[Tensor, "T K"] | None
    profile: Float[Tensor, " K"]
    quantiles: Float[Tensor, "Q K"]
    layer_profiles: Float[Tensor, "L K"]
    input_profile: Float[Tensor, " K"] | None
    counts: Float[Tensor, " K"]
    border: Float[Tensor, " T"]
    levels: tuple[float, ...] = QUANTILES


@final
@dataclass(frozen=True, eq=False)
class BiasCurve:
    """What a sliding window of K steps would miss: g_K = Σ_{k<K} g^(k), what ``TruncatedBPTT(1, K)`` finds, against g = dL/dθ.

    Attributes:
        windows: (K,) the window lengths 1 … K, in steps.
        bias: (K,) ‖g_K − g‖ / ‖g‖ over the parameters that act through time: all but those of the head, which no window changes.
        cosine: (K,) cos(g_K, g) over the same.
        whole_bias: (K,) the bias over every parameter, the head's too.
        whole_cosine: (K,) the cosine over every parameter.
        whole_norm: (K,) ‖g_K‖ over every parameter.
        parameters: the names of those that act through time.
        least: level (0.1, 0.01, 0.001) → the least window from which on ``bias`` stays at or below it; None: longer than was measured.
        chunked: what ``TruncatedBPTT(k)`` would miss, the usual form, whose first loss after a border sees one lag.
        overlapping: what ``TruncatedBPTT(k, 2 * k)`` would miss, whose losses see at least k + 1 lags.
        own: what the network's own training misses, where ``trained_by`` told it.
    """

    windows: Float[Tensor, " K"]
    bias: Float[Tensor, " K"]
    cosine: Float[Tensor, " K"]
    whole_bias: Float[Tensor, " K"]
    whole_cosine: Float[Tensor, " K"]
    whole_norm: Float[Tensor, " K"]
    parameters: tuple[str, ...]
    least: Mapping[float, int | None]
    chunked: "WindowBias | None" = None
    overlapping: "WindowBias | None" = None
    own: "OwnBias | None" = None


@final
@dataclass(frozen=True, eq=False)
class WindowBias:
    """What a form of ``TruncatedBPTT`` misses, measured at some windows shorter than the batch, from the batch's first step.

    Attributes:
        windows: (M,) k1, in steps, ascending.
        bias: (M,) ‖ĝ − g‖ / ‖g‖ over the parameters that act through time, as ``BiasCurve.bias``.
        cosine: (M,) cos(ĝ, g) over the same.
        least: level → the least of these windows from which on ``bias`` stays at or below it; None: none does.
    """

    windows: Float[Tensor, " M"]
    bias: Float[Tensor, " M"]
    cosine: Float[Tensor, " M"]
    least: Mapping[float, int | None]


@final
@dataclass(frozen=True, eq=False)
class OwnBias:
    """What the network's own training misses of this batch's gradient.

    Attributes:
        method: the gradient method, with what is not left at its default.
        words: the same in words: "chunks of 64 steps".
        window: steps between two of its windows: k1 of ``TruncatedBPTT``, the lags of ``SlidingBPTT``, else all of a call.
        steps: of one call; the carry goes on from call to call, and no gradient beyond what the method keeps.
        bias, cosine: as in ``BiasCurve``.
    """

    method: str
    words: str
    window: int
    steps: int
    bias: float
    cosine: float


@final
@dataclass(frozen=True, eq=False)
class Jacobians:
    """J_t = ∂s_t/∂s_{t−1} of the joint state of n = L·S·H numbers, along the traced that the batch drives.

    A stream is followed up to its last loss: what comes after is padding.

    Attributes:
        steps: (N,) the steps t of the samples.
        streams: (N,) the streams b of the samples.
        singular_values: (N, n) of each J_t, descending.
        spans: lengths p of the products measured, in steps.
        span_ends: span p → (M,) the last step t of each product J_t … J_{t−p+1}.
        span_singular_values: span p → (M, n), descending; those below the precision of the largest are rounding.
        exponents: (E,) the greatest Lyapunov exponents, in nats per step, descending; mean over streams. Above 0 the state is chaotic and
            gradients explode; far below 0 they vanish.
        exponents_spread: (E,) standard deviation over streams; NaN with one stream.
        exponent_steps: how many steps of the longest stream they are the mean of, after the burn-in.
        burn_in: steps left out at the start, while the tangents turn into the leading directions.
        radius: (L, G) spectral radius of each gate's recurrent matrix R.
    """

    steps: Shaped[Tensor, " N"]
    streams: Shaped[Tensor, " N"]
    singular_values: Float[Tensor, "N n"]
    spans: tuple[int, ...]
    span_ends: Mapping[int, Tensor]
    span_singular_values: Mapping[int, Tensor]
    exponents: Float[Tensor, " E"]
    exponents_spread: Float[Tensor, " E"]
    exponent_steps: int
    burn_in: int
    radius: Float[Tensor, "L G"]


@final
@dataclass(frozen=True, eq=False)
class Gates:
    """What the units and gates do over the batch's steps that count (those the mask lets stand).

    Attributes:
        names: the gates' letters in the order of the weights: ("r", "z", "n"), ("i", "f", "g", "o"), ("a",) for the simple network's
            pre-activation; numbers for a cell that is not one of these.
        openness: (L, G, H) mean over t and streams of each sigmoidal gate's value, 0 closed, 1 open; NaN where the gate is not one.
        saturation: (L, G, H) share of t and streams at which the unit's slope is below 5 % of the greatest that its function has: the gate,
            or the activation of the simple network, passes next to no gradient. For relu: the share at which the unit is off. NaN
            where the function is not known.
        retention: (L, S, H) geometric mean over t and streams of |∂s'_j/∂s_j| past the recurrent matrix: what a unit keeps of itself in
            one step. f for the LSTM's c, z for the GRU's h, 0 for the simple network.
        half_life: (L, S, H) ln ½ / ln retention, in steps: after how many of them half of a memory is left. 0 where nothing is kept,
            infinite where all is.
        dead: (L,) share of units whose activation or every gate is saturated at more than 99 % of steps.
    """

    names: tuple[str, ...]
    openness: Float[Tensor, "L G H"]
    saturation: Float[Tensor, "L G H"]
    retention: Float[Tensor, "L S H"]
    half_life: Float[Tensor, "L S H"]
    dead: Float[Tensor, " L"]


@final
@dataclass(frozen=True, eq=False)
class Measurement:
    """All parts of one measurement, before anything is said about them.

    Attributes:
        cell: the network's.
        carried: whether a state was carried in, so that the batch is a part of longer streams.
        loss: the batch's loss, as the model scales it, dropout off.
        losses: (T, B) each step's own m w ℓ; NaN where no loss counts.
        guess: what the same losses would cost if every output were held equally likely; None where the head does not say.
        lags, adjoint, bias, jacobians, gates: as in ``Flow``.
    """

    cell: AbstractCell
    carried: bool
    loss: float
    losses: Float[Tensor, "T B"]
    guess: float | None
    lags: LagGradients
    adjoint: AdjointMap
    bias: BiasCurve | None
    jacobians: Jacobians | None
    gates: Gates | None
