"""One forward pass of a model that keeps what its linearisation needs: every layer's inputs, both halves, all states, and the losses.

T time · B batch · I input · G gates · H hidden · S states · L layers.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from .._check import NonFinite
from .._shapes import State
from ..cells import AbstractCell
from ..data import Batch
from ..gradients._base import starting_state
from ..kernels import Parameters, recurrence
from ..kernels._plain import forward
from ..models import AbstractModel


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """What one layer did.

    Attributes:
        cell: its step.
        names: the model's names of W, R, b_ih, b_hh; None where there is no bias.
        weights: W (G, H, I), R (G, H, H), b_ih, b_hh (G, H) or None, without gradient.
        xs: (T, B, I) its input.
        wx: (T, B, G, H) the input half of every pre-activation; ``rh`` the recurrent half.
        states: S tensors (T + 1, B, H), row t the state that step t starts from.
    """

    cell: AbstractCell
    names: tuple[str | None, ...]
    weights: Parameters
    xs: Tensor
    wx: Tensor
    rh: Tensor
    states: State

    def at(self, t: Tensor, b: Tensor) -> tuple[Tensor, Tensor, State]:
        """wx, rh (N, G, H) and the states before, (N, H) each, of N steps (t, b), in float64."""
        return self.wx[t, b].double(), self.rh[t, b].double(), tuple(s[t, b].double() for s in self.states)


@final
@dataclass(frozen=True, eq=False)
class Trajectory:
    """What a model did with a batch.

    Attributes:
        layers: bottom first.
        xs: (T, B, I) what entered the first layer, with the graph of the input station.
        before: S tensors (L, B, H) before the first step, with the graph of what made them.
        losses: (T, B) m w ℓ, detached.
        counted: (T, B) where a loss counts.
        dhs: (T, B, H) ∂(Σ losses)/∂h_t of the top layer, not scaled by the batch.
        trained: parameter name → the parameter, those that want a gradient.
        direct: parameter name → ∂(Σ losses)/∂θ with every h_t held fast; those alone that it reaches.
        scale: what Σ losses is multiplied by.
    """

    layers: tuple[Layer, ...]
    xs: Tensor
    before: State
    losses: Tensor
    counted: Tensor
    dhs: Tensor
    trained: Mapping[str, Tensor]
    direct: Mapping[str, Tensor]
    scale: float


def walk(model: AbstractModel, batch: Batch, state: State | None) -> Trajectory:
    """Run the batch once, from the carried state or from the model's own.

    Raises:
        NonFinite: a weight, or the first step at which something is not a finite number.
    """
    _finite_weights(model)
    with torch.enable_grad():
        xs = model.embed(batch)
        before = starting_state(model, state, batch.fresh, batch.B)
    _finite("the vector that enters the network", xs)
    layers = tuple(_layers(model, xs.detach(), tuple(s.detach() for s in before)))
    hs = layers[-1].states[0][1:].clone().requires_grad_()
    trained = dict(_trained(model))
    with torch.enable_grad():
        losses = model.losses(hs, batch)
        _finite("the loss", losses)
        dhs, *direct = torch.autograd.grad(losses.sum(), [hs, *trained.values()], allow_unused=True)
    reached = {name: g for name, g in zip(trained, direct, strict=True) if g is not None}
    dhs = torch.zeros_like(hs) if dhs is None else dhs
    return Trajectory(layers, xs, before, losses.detach(), counts(batch), dhs, trained, reached, model.scale(batch))


def counts(batch: Batch) -> Tensor:
    """(T, B) where a loss counts: real, and with a weight other than 0."""
    real = torch.ones(batch.T, batch.B, dtype=torch.bool, device=batch.inputs.device) if batch.mask is None else batch.mask
    return real if batch.weights is None else real & (batch.weights != 0)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, and back to its own afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _trained(model: AbstractModel) -> Iterator[tuple[str, Tensor]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


@torch.no_grad()
def _layers(model: AbstractModel, xs: Tensor, before: State) -> Iterator[Layer]:
    names = {id(p): name for name, p in model.named_parameters()}
    stack = model.recurrence
    for ell in range(stack.num_layers):
        stored = [stack._parameters.get(f"{kind}_l{ell}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        weights = Parameters(*(None if p is None else p.detach() for p in stack.parameters_of(ell)))  # type: ignore[arg-type]
        wx, rh, states = _run(stack.cell, xs, tuple(s[ell] for s in before), weights)
        _finite(f"the hidden state of layer {ell}", states[0][1:])
        yield Layer(stack.cell, tuple(None if p is None else names[id(p)] for p in stored), weights, xs, wx, rh, states)
        xs = states[0][1:]


def _run(cell: AbstractCell, xs: Tensor, before: State, weights: Parameters) -> tuple[Tensor, Tensor, State]:
    """wx, rh (T, B, G, H) and all states, S of (T + 1, B, H). Where h is the whole state, the packed kernels' output says it all."""
    if cell.states > 1:
        wx, rh, *states = forward(cell, xs, before, weights).residuals
        return wx, rh, tuple(states)
    hs, _ = recurrence(cell, xs, before, weights)
    h = torch.cat((before[0].unsqueeze(0), hs))
    assert weights.W is not None, "a stack has all its weights"
    return _affine(xs, weights.W, weights.b_ih), _affine(h[:-1], weights.R, weights.b_hh), (h,)


def _affine(xs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(T, B, K) by (G, H, K), plus (G, H), as (T, B, G, H)."""
    flat = functional.linear(xs, weight.flatten(0, 1), None if bias is None else bias.flatten())
    return flat.unflatten(2, weight.shape[:2])


def _finite_weights(model: AbstractModel) -> None:
    for name, p in model.named_parameters():
        if not math.isfinite(float(p.detach().sum())) and not torch.isfinite(p).all():
            raise NonFinite(
                f"the weight {name} has numbers that are not finite, before the first step. Go back to weights that were saved before."
            )


def _finite(what: str, values: Tensor) -> None:
    """Every row of (T, …) finite, or a word about the first that is not."""
    if math.isfinite(float(values.detach().sum())):
        return  # one sum sees them all; where it is not finite, it may yet be the sum that overflowed
    bad = ~torch.isfinite(values.detach()).flatten(1).all(1)
    if bad.any():
        t = int(bad.nonzero()[0])
        raise NonFinite(
            f"{what} is not a finite number at step {t} of {len(values)}, the first where anything is not. "
            "Look at the batch's inputs there, or start from smaller weights."
        )
