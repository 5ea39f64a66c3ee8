"""What units and gates do: how open they stand, how often they are saturated, how long a memory lasts past the recurrent matrix.

With y the value of a gate or of the simple network's activation at one (t, b), and s' = f(wx, rh, s) the step:

    saturated:  σ: y (1 − y) < 0.05 · ¼;    tanh: 1 − y² < 0.05;    relu: y ≤ 0     (1)     slope below 5 % of its greatest
    retention_j = exp(mean over (t, b) of ln |∂s'_j/∂s_j|), at fixed rh             (2)     f of the LSTM's c, z of the GRU's h
    half-life   = ln ½ / ln retention                                               (3)     steps

(2) is taken from the cell's own derivative, so it needs no name of a gate and holds for any cell.

T time · B batch · N rows (t, b) · G gates · H hidden · S states · L layers.
"""

import math

import torch
from torch import Tensor

from ...cells import AbstractCell, derivative
from ...data import Batch
from ...nn import LayerTrace
from ._results import Gates
from ._traced import Traced

_MOST_ROWS = 256  # enough for a mean, where each row's derivative is a matrix


def gates_of(traced: Traced, batch: Batch) -> Gates:
    """Over every (t, b) that the mask lets stand."""
    real = torch.ones_like(traced.counted) if batch.mask is None else batch.mask
    parts = [_layer(layer, real) for layer in traced.layers]
    openness, saturation, retention = (torch.stack(part).double().cpu() for part in zip(*parts, strict=True))
    half_life = math.log(0.5) / retention.log()  # (3)
    half_life = half_life.where(retention < 1, math.inf).where(retention > 0, 0.0)
    dead = (saturation > 0.99).all(1).double().mean(1)
    names = tuple(gate.name for gate in traced.layers[0].cell.named_gates)
    return Gates(names, openness, saturation, retention, half_life, dead)


def _layer(layer: LayerTrace, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Openness (G, H), saturation (G, H), retention (S, H) of one layer."""
    wx, rh = layer.wx[real], layer.rh[real]  # (N, G, H)
    before = tuple(s[real] for s in layer.before)
    openness = torch.full_like(wx[0], math.nan)
    saturation = torch.full_like(wx[0], math.nan)
    for g, (gate, y) in enumerate(zip(layer.cell.named_gates, layer.cell.gate_values(wx, rh), strict=False)):  # values: none, or all
        if gate.function is not None:
            saturation[g] = gate.function.saturated(y).to(y).mean(0)  # (1)
        if gate.opens:
            openness[g] = y.mean(0)
    return openness, saturation, _retention(layer.cell, wx, rh, before)


def _retention(cell: AbstractCell, wx: Tensor, rh: Tensor, before: tuple[Tensor, ...]) -> Tensor:
    """(2)."""
    if not cell.elementwise:
        rows = torch.linspace(0, len(wx) - 1, min(len(wx), _MOST_ROWS), device=wx.device).long()
        wx, rh, before = wx[rows], rh[rows], tuple(s[rows] for s in before)
    by_state = derivative(cell, wx, rh, before).by_state
    own = torch.stack([by_state[p, p] for p in range(cell.states)])  # (S, N, H), or (S, N, H, H)
    own = own if cell.elementwise else own.diagonal(dim1=2, dim2=3)
    return own.abs().double().log().mean(1).exp()
