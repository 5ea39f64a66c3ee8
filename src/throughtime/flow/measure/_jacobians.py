"""Jacobians of the joint state along the traced: their singular values, those of their products, and Lyapunov exponents.

With J_t = ∂s_t/∂s_{t−1}, n × n for the joint state of all layers, n = L·S·H:

    Φ(t, t−p) = J_t J_{t−1} … J_{t−p+1}             (1)     the identity's rows, led back p steps
    J_t Q_{t−1} = Q_t R_t,  diag R_t > 0            (2)     E orthonormal columns pushed forward, orthonormalised anew
    Λ_i = mean over t of ln [R_t]_ii                (3)     nats per step, along the driven traced, after a burn-in

All in float64, whatever the model's type. Singular values of a product below about 1e-16 of its largest are rounding.

N samples · T time · B batch · L layers · S states · H hidden · G gates · E exponents · K vectors led side by side.

References: Benettin, Galgani, Giorgilli & Strelcyn, *Lyapunov characteristic exponents*, 1980 (2), (3); Engelken, Wolf & Abbott,
*Lyapunov spectra of chaotic recurrent neural networks*, 2020.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..._check import InputError
from ...nn import LayerTrace
from ._results import Jacobians
from ._spectra import Spectra
from ._traced import Traced


def spectra_of(traced: Traced, options: Spectra) -> Jacobians:
    """Everything that ``options`` asks for."""
    lengths = stream_lengths(traced.counted)
    longest = int(lengths.max())
    spans = tuple(sorted({span for span in options.spans if span <= longest})) if options.windows else ()
    steps, streams = _spread(lengths, 1, options.samples)
    singles = [_sweep(traced, t, b, (1,))[1] for t, b in zip(steps, streams, strict=True)]
    n = sum(len(layer.states) * layer.states[0].shape[2] for layer in traced.layers)
    ends = {span: _spread(lengths, span, options.windows) for span in spans}
    products = {span: torch.stack([_sweep(traced, t, b, (span,))[span] for t, b in zip(*at, strict=True)]) for span, at in ends.items()}
    exponents, spread, counted, burn_in = _exponents(traced, lengths, options, n)
    return Jacobians(
        steps=torch.tensor(steps),
        streams=torch.tensor(streams),
        singular_values=torch.stack(singles) if singles else torch.empty(0, n, dtype=torch.float64),
        spans=spans,
        span_ends={span: torch.tensor(at[0]) for span, at in ends.items()},
        span_singular_values=products,
        exponents=exponents,
        exponents_spread=spread,
        exponent_steps=counted,
        burn_in=burn_in,
        radius=torch.stack([_radius(layer.weights.R) for layer in traced.layers]),
    )


def stream_lengths(counted: Tensor) -> Tensor:
    """(B,) how far each stream goes: one step beyond its last loss; 0 where it has none."""
    T = len(counted)
    steps = torch.arange(1, T + 1, device=counted.device).unsqueeze(1)
    return (counted * steps).amax(0)


def joint_jacobian(traced: Traced, t: int, b: int, span: int = 1) -> Tensor:
    """(n, n), (1): Φ(t, t − span) of stream b; the joint state is laid out layer by layer, in each state by state."""
    layers = traced.layers
    n = sum(len(layer.states) * layer.states[0].shape[2] for layer in layers)
    rows = torch.eye(n, dtype=torch.float64, device=layers[0].wx.device)
    adjoints = _unpack(rows.unsqueeze(1), layers)
    for u in range(t, t - span, -1):
        step = traced.trace.at_points(torch.tensor([u]), torch.tensor([b]))
        adjoints = [pulled.before for pulled in step.pull(adjoints)]  # (1)
    return _pack(adjoints).squeeze(1)


def _sweep(traced: Traced, t: int, b: int, spans: Sequence[int]) -> dict[int, Tensor]:
    """span → (n,) singular values of the product that ends at t."""
    return {span: _singular_values(joint_jacobian(traced, t, b, span)).cpu() for span in spans}


def _singular_values(product: Tensor) -> Tensor:
    """(n,); NaN where the product has grown beyond float64."""
    return torch.linalg.svdvals(product) if torch.isfinite(product).all() else torch.full_like(product[0], math.nan)


def _exponents(traced: Traced, lengths: Tensor, options: Spectra, n: int) -> tuple[Tensor, Tensor, int, int]:
    """(2), (3): means and spread over streams, the steps counted, the burn-in."""
    longest, E = int(lengths.max()), min(options.exponents, n)
    burn_in = min(50, longest // 4) if options.burn_in is None else options.burn_in
    if E and burn_in >= longest:
        raise InputError(
            f"Spectra.burn_in is {burn_in}, but the longest stream has {longest} steps: none is left to take the mean over. "
            f"Give at most {longest - 1}, or a longer batch."
        )
    streams = lengths.argsort(descending=True, stable=True)[: options.streams]
    streams = streams[lengths[streams] > burn_in]
    if not E or not len(streams):
        return torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64), 0, burn_in
    logs = torch.stack([log for _, log in _stretching(traced, streams, longest, E)])  # (T, B', E)
    t = torch.arange(longest, device=lengths.device).view(-1, 1, 1)
    counts = (t >= burn_in) & (t < lengths[streams].view(1, -1, 1))
    rates = (logs.where(counts, 0).sum(0) / counts.sum(0)).sort(1, descending=True).values  # (3); close ones need long to find their order
    spread = rates.std(0) if len(streams) > 1 else torch.full_like(rates[0], math.nan)
    return rates.mean(0).cpu(), spread.cpu(), longest - burn_in, burn_in


def _stretching(traced: Traced, streams: Tensor, T: int, E: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(2): Q_t (B', n, E) and ln diag R_t (B', E) of each step. The first Q is drawn from a generator of its own, the same every time."""
    layers = traced.layers
    n = sum(len(layer.states) * layer.states[0].shape[2] for layer in layers)
    start = torch.randn(n, E, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    Q = torch.linalg.qr(start).Q.to(layers[0].wx.device).expand(len(streams), n, E)
    for t in range(T):
        tangents = traced.trace.at_points(torch.full_like(streams, t), streams).push(_unpack(Q.permute(2, 0, 1), layers))
        Q, R = torch.linalg.qr(_pack(tangents).permute(1, 2, 0))  # (2)
        yield Q, R.diagonal(dim1=1, dim2=2).abs().log()


def _unpack(vectors: Tensor, layers: Sequence[LayerTrace]) -> list[Tensor]:
    """(K, N, n) as L of (S, K, N, H)."""
    found, at = [], 0
    for layer in layers:
        S, H = len(layer.states), layer.states[0].shape[2]
        found.append(vectors[..., at : at + S * H].unflatten(-1, (S, H)).movedim(-2, 0))
        at += S * H
    return found


def _pack(parts: Sequence[Tensor]) -> Tensor:
    """L of (S, K, N, H) as (K, N, n)."""
    return torch.cat([part.movedim(0, -2).flatten(-2) for part in parts], -1)


def _radius(R: Tensor) -> Tensor:
    """(G,) the greatest |eigenvalue| of each gate's matrix."""
    return torch.linalg.eigvals(R.double()).abs().amax(-1).cpu()


def _spread(lengths: Tensor, least: int, count: int) -> tuple[list[int], list[int]]:
    """``count`` pairs (t, b), evenly over the streams of at least ``least`` steps and over the times t ≥ least − 1 of each."""
    able = [(b, length) for b, length in enumerate(lengths.tolist()) if length >= max(1, least)]
    steps, streams = [], []
    for i in range(count if able else 0):
        b, length = able[i * len(able) // count if count < len(able) else i % len(able)]
        share = (i + 1) / count  # the last sample stands at the end
        steps.append(least - 1 + round(share * (length - least)))
        streams.append(b)
    return steps, streams
