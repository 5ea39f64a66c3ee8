"""A model run once over a batch: the trace of its stack, the losses, and what reaches the parameters without passing through time.

T time · B batch · I input · H hidden · S states · L layers.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ..._check import NonFinite
from ..._shapes import State
from ...data import Batch
from ...gradients import starting_state
from ...kernels import learned_vectors
from ...models import AbstractModel
from ...nn import LayerTrace, Trace


@final
@dataclass(frozen=True, eq=False)
class Traced:
    """What a model did with a batch.

    Attributes:
        trace: of its stack.
        xs: (T, B, I) what entered the first layer, with the graph of the input station.
        before: S tensors (L, B, H) before the first step, with the graph of what made them.
        losses: (T, B) m w ℓ, detached.
        counted: (T, B) where a loss counts.
        dhs: (T, B, H) ∂(Σ losses)/∂h_t of the top layer, not scaled by the batch.
        trained: parameter name → the parameter, those that want a gradient.
        stored: for each layer W, R, b_ih, b_hh as they are used (None where there is no bias), and the learned vectors of its cell.
        direct: parameter name → ∂(Σ losses)/∂θ with every h_t held fast; those alone that it reaches.
        scale: what Σ losses is multiplied by.
    """

    trace: Trace
    xs: Tensor
    before: State
    losses: Tensor
    counted: Tensor
    dhs: Tensor
    trained: Mapping[str, Tensor]
    stored: tuple[tuple[Tensor | None, ...], ...]
    direct: Mapping[str, Tensor]
    scale: float

    @property
    def layers(self) -> list[LayerTrace]:
        """Bottom first."""
        return self.trace.layers

    def named(self, p: Tensor, g: Tensor) -> dict[str, Tensor]:
        """The gradient of one of ``stored``, of any shape, by its name; for a function of parameters, theirs."""
        if p.is_leaf:
            return {name: g.sum_to_size(p.shape) if g.ndim < 2 else g for name, one in self.trained.items() if one is p}
        return self.lead_on((p,), (g.view_as(p),))

    def lead_on(self, made: State, adjoints: State) -> dict[str, Tensor]:
        """From adjoints of ``xs`` or of ``before`` into the parameters that made them."""
        found = torch.autograd.grad(made, list(self.trained.values()), adjoints, retain_graph=True, allow_unused=True)
        return {name: g for name, g in zip(self.trained, found, strict=True) if g is not None}


def trace_batch(model: AbstractModel, batch: Batch, state: State | None) -> Traced:
    """Run the batch once, from the carried state or from the model's own.

    Raises:
        NonFinite: a weight, or the first step at which something is not a finite number.
    """
    _finite_weights(model)
    with torch.enable_grad():
        xs = model.embed(batch)
        before = starting_state(model, state, batch.fresh, batch.B)
    _finite("the vector that enters the network", xs)
    trace = model.recurrence.trace(xs.detach(), tuple(s.detach() for s in before), keep="none")
    for ell, layer in enumerate(trace.layers):
        _finite(f"the hidden state of layer {ell}", layer.run.hs)
    hs = trace.hs.clone().requires_grad_()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        losses = model.losses(hs, batch)
        _finite("the loss", losses)
        dhs, *direct = torch.autograd.grad(losses.sum(), [hs, *trained.values()], allow_unused=True)
    reached = {name: g for name, g in zip(trained, direct, strict=True) if g is not None}
    dhs = torch.zeros_like(hs) if dhs is None else dhs
    return Traced(trace, xs, before, losses.detach(), counts(batch), dhs, trained, _stored(model), reached, model.scale(batch))


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


def _stored(model: AbstractModel) -> tuple[tuple[Tensor | None, ...], ...]:
    stack = model.recurrence
    return tuple((*stack.stored_parameters_of(ell), *learned_vectors(stack.cell_of(ell))) for ell in range(stack.num_layers))


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
            "Look at the batch's inputs there, measure the steps before it, or start from smaller weights."
        )
