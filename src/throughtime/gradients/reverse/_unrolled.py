"""A stack run forward over a stretch, every step kept, so that a method can take any adjoint back through any step.

T time · B batch · N rows of time · I input · H hidden · G gates · L layers · S states.

The state of the whole stack at time t is s_t = (s_t^1, …, s_t^L), one part a layer, and J_t = ∂s_t/∂s_{t−1}. A lag is counted in time:
the paths from layer to layer within a step do not lengthen it. With W^l, R^l a layer's weights and λ_t the adjoint that arrives at s_t,
one step back is, from the top layer down,

    ā^l   = λ_t^l + (Wᵀ dwx)^{l+1}, into its h-part                 (1)     what arrives in time, and from the layer above
    ā^l   ← ā^l · min(1, clip / ‖ā^l‖)                              (2)     only where clipping at each time step is asked for
    dwx^l, drh^l, ds^l = step_vjp(ā^l)                              (3)
    (λ_t J_t)^l = ds^l, its h-part + Rᵀ drh^l                       (4)     zero where the stream began at t

and the gradient is linear in the ā: of their sum over however many passes,

    dW = Σ_t dwx_t ⊗ x_t,  dR = Σ_t drh_t ⊗ h_{t−1},  db_ih = Σ_t dwx_t,  db_hh = Σ_t drh_t         (5)     once, at the end.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional

from ..._shapes import State
from ...cells import AbstractCell
from ...data import Batch
from ...kernels import Parameters, Traversal
from ...kernels._plain import clip_adjoint, forward
from ...models import AbstractModel
from ._stretch import Stretch

Layered = list[State]  # for each layer its S tensors (N, B, H)


class Pulled(NamedTuple):
    """One step back, at N rows at once."""

    adjoint: Layered  # ā of (1), (2)
    dwx: list[Tensor]  # for each layer (N, B, G, H)
    drh: list[Tensor]
    before: Layered  # λ_t J_t of (4), for row t − 1


@final
class Unrolled:
    """Stations ② and ③ over a stretch. Runs at once; memory is O(T).

    Attributes:
        layers: what each one kept.
        hs: (T, B, H) the last layer's h.
        last: the state after the last row, S tensors (L, B, H).
    """

    def __init__(self, model: AbstractModel, stretch: Stretch) -> None:
        self.model, self.stretch = model, stretch
        self._xs = model.embed(Batch(stretch.inputs, stretch.inputs))  # which looks at the inputs alone
        self._initial = model.initial_state(stretch.inputs.shape[1])
        with torch.no_grad():
            self.layers = self._run()
        self.hs = self.layers[-1].after[0]
        self.last = self.entering(stretch.T)

    def _run(self) -> "list[Layer]":
        stack, below = self.model.recurrence, self._xs.detach()
        carried = self._initial if self.stretch.state is None else self.stretch.state
        layers = []
        for i in range(stack.num_layers):
            kept = None
            if i > 0 and stack.training and stack.dropout > 0:
                kept = functional.dropout(torch.ones_like(below), stack.dropout)
                below = below * kept
            parameters = Parameters(*(None if p is None else p.detach() for p in stack.parameters_of(i)))  # type: ignore[arg-type]
            walk = Traversal(reset=self.stretch.fresh, restart=tuple(s[i].detach() for s in self._initial))
            run = forward(stack.cell, below, tuple(s[i] for s in carried), parameters, walk)
            wx, rh, *states = run.residuals
            layers.append(Layer(stack.cell, parameters, below, kept, wx, rh, tuple(states), walk))
            below = run.hs
        return layers

    def entering(self, row: int) -> State:
        """The state carried into a row, S tensors (L, B, H), before any stream begins anew there."""
        return tuple(torch.stack(parts) for parts in zip(*(tuple(s[row] for s in layer.states) for layer in self.layers), strict=True))

    def loss(self) -> tuple[Tensor, Tensor]:
        """The batch's loss (), and c = ∂L/∂h of the last layer (T of the batch, B, H); the head's own gradient is added."""
        batch = self.stretch.batch
        hs = self.hs[self.stretch.offset :].detach().requires_grad_()
        loss = self.model.losses(hs, batch).sum() * self.model.scale(batch)
        loss.backward()
        assert hs.grad is not None, "losses are a function of hs"
        return loss.detach(), hs.grad

    def zeros(self, rows: int) -> Layered:
        """No adjoint, at so many rows."""
        return [tuple(s.new_zeros(rows, *s.shape[1:]) for s in layer.states) for layer in self.layers]

    def from_top(self, dhs: Tensor) -> Layered:
        """The adjoint that arrives from the head alone: ``dhs`` (N, B, H) at the last layer's h."""
        below = self.zeros(dhs.shape[0])
        return [*below[:-1], (dhs, *below[-1][1:])]

    def pull(self, arriving: Layered, start: int, stop: int, *, clip: float | None) -> Pulled:
        """(1)–(4) at rows start..stop−1, each from its own adjoint, all in the same few products."""
        found: list[tuple[State, Tensor, Tensor, State]] = []
        above: Tensor | None = None
        for layer, adjoint in zip(reversed(self.layers), reversed(arriving), strict=True):
            adjoint = adjoint if above is None else (adjoint[0] + above, *adjoint[1:])  # (1)
            adjoint = adjoint if clip is None else _clipped(adjoint, clip)  # (2)
            dwx, drh, before = layer.pull(adjoint, start, stop)  # (3), (4)
            found.append((adjoint, dwx, drh, before))
            above = layer.into_input(dwx, start, stop) if layer is not self.layers[0] else None
        return Pulled(*map(list, zip(*reversed(found), strict=True)))

    def add_gradients(self, total: Layered) -> None:
        """(5), and on to what made the input and the initial states, from the sum of the ``adjoint`` of every pull, at all T rows."""
        T, stack, restarts = self.stretch.T, self.model.recurrence, []
        for i, (layer, adjoint) in enumerate(zip(self.layers, total, strict=True)):
            dwx, drh, restart = layer.pull(adjoint, 0, T, to_restart=True)
            restarts.append(tuple(d.sum(0) for d in restart))
            for p, g in zip(stack.parameters_of(i), layer.gradients(dwx, drh, 0, T), strict=True):
                _add(p, g)
            if i == 0:
                _add(self._xs, layer.into_input(dwx, 0, T))
        for s, parts in zip(self._initial, zip(*restarts, strict=True), strict=True):
            _add(s, torch.stack(parts))


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """One layer's run: its input (T, B, I) and the dropout on it, wx and rh (T, B, G, H), states (T + 1, B, H) around each row."""

    cell: AbstractCell
    parameters: Parameters
    below: Tensor
    dropped: Tensor | None
    wx: Tensor
    rh: Tensor
    states: State
    walk: Traversal

    @property
    def after(self) -> State:
        """S tensors (T, B, H), the state after each row."""
        return tuple(s[1:] for s in self.states)

    def before(self, start: int, stop: int) -> State:
        """S tensors (N, B, H), the state that rows start..stop−1 step from."""
        began, restart = self._began(start, stop), self.walk.restart
        assert restart is not None, "_run gives one"
        return tuple(torch.where(began, new, s[start:stop]) for new, s in zip(restart, self.states, strict=True))

    def pull(self, adjoint: State, start: int, stop: int, *, to_restart: bool = False) -> tuple[Tensor, Tensor, State]:
        """dwx, drh (N, B, G, H), and the adjoint of the state before; ``to_restart``: of the states that streams began from instead."""
        shape, flat = (stop - start, *self.wx.shape[1:]), lambda x: x.flatten(0, 1)
        before, after = self.before(start, stop), tuple(s[start + 1 : stop + 1] for s in self.states)
        wx, rh = flat(self.wx[start:stop]), flat(self.rh[start:stop])
        dwx, drh, ds = self.cell.step_vjp(wx, rh, tuple(map(flat, before)), tuple(map(flat, after)), tuple(map(flat, adjoint)))  # (3)
        ds = (torch.addmm(ds[0], drh.flatten(1), self.parameters.R.flatten(0, 1)), *ds[1:])  # (4)
        stays = self._began(start, stop) if to_restart else ~self._began(start, stop)
        return dwx.view(shape), drh.view(shape), tuple(torch.where(stays, d.view_as(s), 0) for d, s in zip(ds, before, strict=True))

    def into_input(self, dwx: Tensor, start: int, stop: int) -> Tensor:
        """Wᵀ dwx (N, B, I), through the dropout."""
        assert self.parameters.W is not None, "a stack has all its weights"
        dx = dwx.flatten(2) @ self.parameters.W.flatten(0, 1)
        return dx if self.dropped is None else dx * self.dropped[start:stop]

    def gradients(self, dwx: Tensor, drh: Tensor, start: int, stop: int) -> Parameters:
        """(5) over rows start..stop−1, as the parameters; ``dwx``, ``drh`` (N, B, G, H)."""
        W, R, b_ih, b_hh = self.parameters
        dwx, drh = dwx.flatten(2).flatten(0, 1), drh.flatten(2).flatten(0, 1)  # (T·B, G·H)
        h_before = self.before(start, stop)[0].flatten(0, 1)
        return Parameters(
            None if W is None else (dwx.T @ self.below[start:stop].flatten(0, 1)).view_as(W),
            (drh.T @ h_before).view_as(R),
            None if b_ih is None else dwx.sum(0).view_as(b_ih),
            None if b_hh is None else drh.sum(0).view_as(b_hh),
        )

    def _began(self, start: int, stop: int) -> Tensor:
        """(N, B, 1), where a stream began anew."""
        assert self.walk.reset is not None, "_run gives one"
        return self.walk.reset[start:stop].unsqueeze(2)


def _clipped(adjoint: State, limit: float) -> State:
    """(2), each row and stream by itself."""
    flat = clip_adjoint(tuple(s.flatten(0, 1) for s in adjoint), limit)
    return tuple(s.view_as(a) for s, a in zip(flat, adjoint, strict=True))


def _add(tensor: Tensor | None, gradient: Tensor | None) -> None:
    """Hand a gradient to whatever made a tensor; a parameter adds it to its ``grad``."""
    if tensor is not None and gradient is not None and tensor.requires_grad:
        torch.autograd.backward(tensor, gradient)
