"""Cells of the gallery against their papers' equations, written out in the papers' letters and with their products.

Each is one step from random states, with weights, biases and vectors drawn at random.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from _rounding import assert_close, rounding
from torch import Tensor, nn, sigmoid, tanh

from throughtime.cells import AbstractCell, zoo

B, I, H = 5, 3, 7
PAPER: dict[str, Callable[..., tuple[Tensor, ...]]] = {}  # x, W and b by gate, U by row of R, states, cell


def paper(f: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    PAPER[f.__name__] = f
    return f


@paper
def PeepholeLSTM(x, W, U, b, state, cell):  # Graves 2013, eq. 7–11
    h, c = state
    i = sigmoid(x @ W[0].T + h @ U[0].T + cell.p_i * c + b[0])
    f = sigmoid(x @ W[1].T + h @ U[1].T + cell.p_f * c + b[1])
    c_t = f * c + i * tanh(x @ W[2].T + h @ U[2].T + b[2])
    o = sigmoid(x @ W[3].T + h @ U[3].T + cell.p_o * c_t + b[3])
    return o * tanh(c_t), c_t


@paper
def CoupledLSTM(x, W, U, b, state, cell):  # Greff et al. 2017, CIFG: f = 1 − i, the weights of i being −W_f
    y, c = state
    i = sigmoid(-(x @ W[0].T + y @ U[0].T + b[0]))
    z = tanh(x @ W[1].T + y @ U[1].T + b[1])
    o = sigmoid(x @ W[2].T + y @ U[2].T + b[2])
    c_t = z * i + c * (1 - i)
    return tanh(c_t) * o, c_t


@paper
def MGU(x, W, U, b, state, cell):  # Zhou et al. 2016, with U_h f ⊙ h replaced by f ⊙ (U_h h)
    (h,) = state
    f = sigmoid(x @ W[0].T + h @ U[0].T + b[0])
    candidate = tanh(x @ W[1].T + f * (h @ U[1].T) + b[1])
    return ((1 - f) * h + f * candidate,)


@paper
def UGRNN(x, W, U, b, state, cell):  # Collins et al. 2017
    (h,) = state
    c = tanh(x @ W[1].T + h @ U[1].T + b[1])
    g = sigmoid(x @ W[0].T + h @ U[0].T + b[0])
    return (g * h + (1 - g) * c,)


@paper
def ResetBeforeGRU(x, W, U, b, state, cell):  # Cho et al. 2014 (v3), eq. 5–8
    (h,) = state
    r = sigmoid(x @ W[0].T + h @ U[0].T + b[0])
    z = sigmoid(x @ W[1].T + h @ U[1].T + b[1])
    candidate = tanh(x @ W[2].T + (r * h) @ U[2].T + b[2])
    return (z * h + (1 - z) * candidate,)


@paper
def MinGRU(x, W, U, b, state, cell):  # Feng et al. 2024, §3.1
    (h,) = state
    z = sigmoid(x @ W[0].T + b[0])
    return ((1 - z) * h + z * (x @ W[1].T + b[1]),)


@paper
def MinLSTM(x, W, U, b, state, cell):  # Feng et al. 2024, §3.2
    (h,) = state
    f, i = sigmoid(x @ W[0].T + b[0]), sigmoid(x @ W[1].T + b[1])
    f_scaled, i_scaled = f / (f + i), i / (f + i)
    return (f_scaled * h + i_scaled * (x @ W[2].T + b[2]),)


@paper
def SRU(x, W, U, b, state, cell):  # Lei et al. 2018, eq. 1–4, as the authors' code has them
    _, c = state
    u, way_past = x @ W[1].T + b[1], x @ W[3].T + b[3]
    f = sigmoid(x @ W[0].T + cell.v_f * c + b[0])
    r = sigmoid(x @ W[2].T + cell.v_r * c + b[2])
    c_t = u + (c - u) * f
    return way_past + (c_t - way_past) * r, c_t


@paper
def EINetwork(x, W, U, b, state, cell):  # Song, Yang & Wang 2016, eq. 1 and 2 by Euler's rule; the rate is of the potential before
    r, potential = state
    potential = (1 - cell.alpha) * potential + cell.alpha * (x @ W[0].T + r @ U[0].T + b[0])
    return potential.clamp_min(0), potential


def drawn(name: str) -> tuple[AbstractCell, tuple[Any, ...]]:
    kind = getattr(zoo, name)
    cell: Any = kind(H).double() if issubclass(kind, nn.Module) else kind()
    for p in cell.parameters() if isinstance(cell, nn.Module) else ():
        nn.init.normal_(p)
    draw = lambda *shape: torch.randn(shape, dtype=torch.float64)
    state = tuple(draw(B, H) for _ in range(cell.states))
    return cell, (draw(B, I), draw(cell.gates, H, I), draw(cell.rh_gates, H, H), draw(cell.gates, H), state)


@pytest.mark.parametrize("name", PAPER)
@torch.no_grad()
def test_a_step_is_the_papers(name):
    cell, (x, W, U, b, state) = drawn(name)
    wx = torch.einsum("bi,ghi->bgh", x, W) + b
    product = lambda h, R: torch.einsum("bk,ghk->bgh", h, R)
    early = cell.rh_gates - cell.late_gates
    rh = product(state[0], U[:early])
    if cell.late_gates:
        rh = torch.cat((rh, product(cell.between(wx, rh, state), U[early:])), 1)
    assert_close(cell.step(wx, rh, state), PAPER[name](x, W, U, b, state, cell), rounding(2 * (I + H + 10)))
