"""A stack run once over a sequence, with what its derivative at every step needs.

This is the only place where adjoints, tangents and Jacobians go through a stack. The state of the whole stack at step t is
s_t = (s_t^0, …, s_t^{L−1}), one part a layer, and J_t = ∂s_t/∂s_{t−1}. With W^l, R^l a layer's weights and m^l the mask that dropout
has drawn on its input,

    s_t^l = f(W^l x_t^l + b_ih, R^l h_{t−1}^l + b_hh, s_{t−1}^l),   x_t^l = m_t^l ⊙ h_t^{l−1}       (1)

A lag is counted in time: the paths from layer to layer within a step do not lengthen it. With λ_t the adjoint that arrives at s_t, one
step back is, from the top layer down,

    ā^l   = λ_t^l + m ⊙ (Wᵀ dwx)^{l+1}, into its h-part             (2)     what arrives in time, and from the layer above
    ā^l   ← ā^l · min(1, clip / ‖ā^l‖)                              (3)     only where clipping at each time step is asked for
    dwx^l, drh^l, ds^l = the cell's step, transposed, of ā^l        (4)
    (λ_t J_t)^l = ds^l, its h-part + Rᵀ drh^l                       (5)     where a stream began at t, it goes to the initial state

and the gradient is linear in the ā: of their sum over however many passes,

    dW = Σ_t dwx_t ⊗ x_t,  dR = Σ_t drh_t ⊗ h_{t−1},  db_ih = Σ_t dwx_t,  db_hh = Σ_t drh_t         (6)     once, at the end.

``Trace.backward`` is the recursion over all steps, by the fast kernels; ``Trace.pull`` is (2)–(5) for many steps at once, each from an
adjoint of its own; ``LayerTrace.at`` is one step as a linear map, for tangents and Jacobians.

T time · B batch · n rows of (t, b) · I input · H hidden · G gates · L layers · S states.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from .._shapes import State
from ..cells import AbstractCell, AbstractPullback, StepDerivative, derivative
from ..kernels import FORWARD, Gradients, Parameters, RecurrentParameters, Traversal, backward, flat, forward, states
from ._linearised import LinearisedStack, LinearisedStep
from ._rows import Rows, TableProduct
from ._weight_gradients import WeightGradients

if TYPE_CHECKING:
    from ._stack import Recurrence

Layered = list[State]  # for each layer its S tensors (n, H), rows (t, b) with the stream running fastest


@final
class LayerTrace:
    """One layer over all T steps.

    Args:
        cell: its step.
        weights: W (G, H, I), R (G, H, H), b_ih, b_hh (G, H) or None, without gradient.
        xs: (T, B, I) its input, the mask applied; or rows of a table whose product with W is made.
        mask: (T, B, I) what dropout multiplied it by; None: nothing.
        start: the state before the first step, S tensors (B, H).
        traversal: where streams begin anew, and from which state.
        keep: what is left for ``backward``; "none": neither that nor anything else but the output.
        clip: as ``clip_adjoint`` of ``Recurrence.forward``.

    Attributes:
        run: the output and the last state.
    """

    def __init__(
        self,
        cell: AbstractCell,
        weights: Parameters,
        xs: Tensor | Rows,
        mask: Tensor | None,
        start: State,
        traversal: Traversal,
        keep: Literal["fast", "lean", "none"],
        clip: float | None,
    ) -> None:
        self.cell, self.weights, self.mask, self.start, self.traversal = cell, weights, mask, start, traversal
        self.keep: Literal["fast", "lean", "none"] = keep
        self.clip = clip
        self._entered = xs
        if isinstance(xs, Rows):
            self._given, self._given_weights = xs.input_half(cell.gates), RecurrentParameters(weights.R, weights.b_hh)
        else:
            self._given, self._given_weights = xs, weights
        self.run = forward(cell, self._given, start, self._given_weights, traversal, clip=clip, keep=keep)

    @cached_property
    def xs(self) -> Tensor:
        """(T, B, I) the input, looked up where it came as rows."""
        return self._entered.vectors().detach() if isinstance(self._entered, Rows) else self._entered

    @cached_property
    def states(self) -> State:
        """S tensors (T + 1, B, H): row t is the state that t steps have left, before any stream begins anew there."""
        return states(self.cell, self._given, self.start, self._given_weights, self.traversal, self.run, self.keep)

    @cached_property
    def before(self) -> State:
        """S tensors (T, B, H): the state that each step starts from."""
        reset, restart = self.traversal.reset, self.traversal.restart
        if reset is None or restart is None:
            return tuple(s[:-1] for s in self.states)
        return tuple(torch.where(reset.unsqueeze(2), new, s[:-1]) for new, s in zip(restart, self.states, strict=True))

    @cached_property
    def wx(self) -> Tensor:
        """(T, B, G, H) W x_t + b_ih."""
        return self._given if isinstance(self._entered, Rows) else _affine(self.xs, self.weights.W, self.weights.b_ih)

    @cached_property
    def rh(self) -> Tensor:
        """(T, B, G, H) R h_{t−1} + b_hh, all steps in one product."""
        return _affine(self.before[0], self.weights.R, self.weights.b_hh)

    @cached_property
    def W_inputs(self) -> Tensor:
        """(T, B, I + 1) what (W, b_ih) multiply: x and 1; (T, B, I) without biases."""
        return _with_one(self.xs, self.weights.b_ih)

    @cached_property
    def R_inputs(self) -> Tensor:
        """(T, B, H + 1) what (R, b_hh) multiply: h_{t−1} and 1; (T, B, H) without biases."""
        return _with_one(self.before[0], self.weights.b_hh)

    @cached_property
    def derivative(self) -> StepDerivative:
        """The cell's derivative at all T·B points, time first."""
        return derivative(self.cell, *self._points())

    def everywhere(self) -> LinearisedStep:
        """All steps as one linear map of T·B points."""
        mask = None if self.mask is None else self.mask.flatten(0, 1)
        return LinearisedStep(self.weights.W, self.weights.R, self.derivative, mask)

    def at(self, t: int) -> LinearisedStep:
        """Step t as a linear map of B points."""
        B, d = self.run.hs.shape[1], self.derivative
        by_wx, by_rh, by_state = (x.narrow(2, t * B, B) for x in (d.by_wx, d.by_rh, d.by_state))
        mask = None if self.mask is None else self.mask[t]
        return LinearisedStep(self.weights.W, self.weights.R, StepDerivative(by_wx, by_rh, by_state, d.elementwise), mask)

    def at_points(self, t: Tensor, b: Tensor) -> LinearisedStep:
        """The steps at N pairs (t, b) as a linear map in float64."""
        wx, rh, before = self.wx[t, b].double(), self.rh[t, b].double(), tuple(s[t, b].double() for s in self.before)
        mask = None if self.mask is None else self.mask[t, b].double()
        return LinearisedStep(self.weights.W.double(), self.weights.R.double(), derivative(self.cell, wx, rh, before), mask)

    @cached_property
    def pullback(self) -> AbstractPullback:
        """(4), with what does not depend on the adjoint made once."""
        return self.cell.pullback(*self._points())

    @cached_property
    def weight_gradients(self) -> WeightGradients:
        """(6) of what ``pull`` found last; its buffers are made once."""
        return WeightGradients(self.weights, self.xs, self.before[0], self.pullback)

    def pull(self, rows: slice, adjoint: State, into: State, *, wants_dwx: bool) -> None:
        """(4), (5) of some rows, from ā, into S tensors (n, H)."""
        beta = int(self.pullback.apply(rows, adjoint, into, wants_dwx=wants_dwx))
        drh = self.pullback.drh[rows].flatten(1)
        torch.addmm(into[0], drh, self.weights.R.flatten(0, 1), beta=beta, out=into[0])  # (5)

    def pull_input(self, rows: slice, into: Tensor, *, add: bool) -> None:
        """m ⊙ Wᵀ dwx of the rows that were pulled last, written or added to ``into`` (n, I)."""
        dwx, W = self.pullback.dwx[rows].flatten(1), self.weights.W.flatten(0, 1)
        if self.mask is None:
            torch.addmm(into, dwx, W, beta=int(add), out=into)
        else:
            dx = torch.mm(dwx, W).mul_(self.mask.flatten(0, 1)[rows])
            into.add_(dx) if add else into.copy_(dx)

    def backward(self, dhs: Tensor | None, dlast: State, *, needs_dxs: bool) -> Gradients:
        """The recursion over all steps; ``dxs`` before the mask, or the adjoint of wx where the input came as rows."""
        return backward(
            self.cell, self._given, self._given_weights, self.run, dhs, dlast, self.traversal,
            clip=self.clip, needs_dxs=needs_dxs, keep=self.keep,
        )  # fmt: skip

    def backward_to_wx(self, dhs: Tensor) -> Tensor:
        """The same recursion's adjoints of wx, (T, B, G, H), from those of every output."""
        half = RecurrentParameters(self.weights.R, self.weights.b_hh)
        ends = tuple(torch.zeros_like(s) for s in self.start)
        dwx = backward(self.cell, self.wx, half, self.run, dhs, ends, self.traversal, keep=self.keep).dxs
        assert dwx is not None, "it was asked for"
        return dwx

    def _points(self) -> tuple[Tensor, Tensor, State]:
        """wx, rh (T·B, G, H) and the states before, S of (T·B, H)."""
        return self.wx.flatten(0, 1), self.rh.flatten(0, 1), tuple(s.flatten(0, 1) for s in self.before)


@final
class Trace:
    """A stack over T steps of B streams. It runs at once, without a graph, and remembers what its derivative needs.

    Made by ``Recurrence.trace``. Gradients are added to the ``grad`` of the stack's parameters, of its initial state and of whatever made
    ``xs``; the last waits for ``finish``.

    Attributes:
        layers: bottom first.
        hs: (T, B, H) every step's h of the last layer.
        last: the state after the last step, S tensors (L, B, H).
        fresh: (T, B) where a stream begins anew; None: nowhere.
    """

    def __init__(
        self,
        stack: "Recurrence",
        xs: Tensor | Rows,
        state: State | None,
        fresh: Tensor | None,
        *,
        initial: State | None = None,
        mask: Tensor | None = None,
        keep: Literal["fast", "lean", "none"] = "fast",
        clip_adjoint: float | None = None,
    ) -> None:
        self.stack, self._source, self.clip = stack, xs, clip_adjoint
        self._keep: Literal["fast", "lean", "none"] = keep
        self.T, self.B = xs.shape[:2]
        self.fresh = _where_fresh(fresh, state, self.T, self.B)
        self._fresh_steps = set() if self.fresh is None else set(self.fresh.any(1).nonzero().flatten().tolist())
        self._initial = (stack.initial_state(self.B) if initial is None else initial) if self._fresh_steps else None
        self._owned = TableProduct(stack, xs.table) if isinstance(xs, Rows) and xs.product is None else None
        self._dxs: Tensor | None = None
        with torch.no_grad():
            self.layers = self._run(self._first_input(mask), mask, state)
        self.hs = self.layers[-1].run.hs
        self.last = tuple(torch.stack(parts) for parts in zip(*(layer.run.last for layer in self.layers), strict=True))

    def _first_input(self, mask: Tensor | None) -> Tensor | Rows:
        """What the first layer is given: vectors with the mask applied; or rows, the table's product at hand."""
        if isinstance(self._source, Rows):
            return self._source if self._owned is None else self._source.with_product(self._owned)
        xs = self._source.detach()
        return xs if mask is None else xs * mask

    def _run(self, below: Tensor | Rows, mask: Tensor | None, state: State | None) -> list[LayerTrace]:
        stack, layers = self.stack, []
        for l in range(stack.num_layers):
            if l > 0:
                mask = drawn_mask(layers[-1].run.hs, stack.dropout, stack.training)
                below = layers[-1].run.hs if mask is None else layers[-1].run.hs * mask
            start, traversal = self._beginning(l, state)
            weights = stack.parameters_of(l).map(Tensor.detach)
            layers.append(LayerTrace(stack.cell, weights, below, mask, start, traversal, self._keep, self.clip))
        return layers

    def _beginning(self, l: int, state: State | None) -> tuple[State, Traversal]:
        """A layer's state before the first step, and where later it is replaced."""
        carried = None if state is None else tuple(s[l].detach() for s in state)
        if self._initial is None or self.fresh is None:
            assert carried is not None, "without a carried state every stream is fresh"
            return carried, FORWARD
        initial = tuple(s[l].detach().contiguous() for s in self._initial)
        first = self.fresh[0].unsqueeze(1)
        start = initial if carried is None else tuple(torch.where(first, new, old) for new, old in zip(initial, carried, strict=True))
        return start, Traversal(reset=self.fresh, restart=initial) if self._fresh_steps - {0} else FORWARD

    def entering(self, t: int) -> State:
        """The state that t steps have left, S tensors (L, B, H), before any stream begins anew at step t."""
        return tuple(torch.stack(parts) for parts in zip(*(tuple(s[t] for s in layer.states) for layer in self.layers), strict=True))

    def zeros(self, steps: int) -> Layered:
        """No adjoint, at so many steps."""
        return [tuple(s.new_zeros(steps * self.B, s.shape[1]) for s in layer.start) for layer in self.layers]

    def at(self, t: int) -> LinearisedStack:
        """Step t of all layers as a linear map of B points."""
        return LinearisedStack([layer.at(t) for layer in self.layers])

    def at_points(self, t: Tensor, b: Tensor) -> LinearisedStack:
        """The steps of all layers at N pairs (t, b), in float64."""
        return LinearisedStack([layer.at_points(t, b) for layer in self.layers])

    # The whole recursion.

    def backward(self, dhs: Tensor | None, dlast: State | None) -> State:
        """Take the adjoints of every output (T, B, H) and of the last state back to the first step, by the fast kernels.

        Adds (6) to the parameters' gradients. May be called again with other adjoints.

        Args:
            dhs: None: zeros.
            dlast: S tensors (L, B, H); None: zeros.

        Returns:
            The adjoint of the state that was carried in, S tensors (L, B, H): zero for streams that began anew.
        """
        found: list[Gradients] = []
        for l in reversed(range(len(self.layers))):
            layer = self.layers[l]
            ends = tuple(torch.zeros_like(s) for s in layer.start) if dlast is None else tuple(s[l] for s in dlast)
            found.insert(0, layer.backward(dhs, ends, needs_dxs=l > 0 or self._wants_dxs))
            dhs = found[0].dxs if layer.mask is None or found[0].dxs is None else found[0].dxs * layer.mask
        if dhs is not None:
            self._gather(dhs)
        self._add_weights([flat(d.parameters) for d in found])
        return self._to_carried(found)

    def _to_carried(self, found: list[Gradients]) -> State:
        """The adjoint of the state before the first step, less what belongs to initial states, which is handed on."""
        start = tuple(torch.stack(parts) for parts in zip(*(d.dstate for d in found), strict=True))  # (L, B, H) each
        if self._initial is None or self.fresh is None:
            return start
        first = self.fresh[0].view(1, -1, 1)
        initial = [torch.where(first, ds, 0) for ds in start]
        for l, d in enumerate(found):
            for total, later in zip(initial, d.drestart or (), strict=False):
                total[l] += later
        add_to_grads(self._initial, initial)
        return tuple(torch.where(first, 0, ds) for ds in start)

    def input_half_adjoints(self, dhs: Tensor) -> list[Tensor]:
        """Each layer's ∂L/∂wx (T, B, G, H), from the adjoints of every output; nothing is added to any gradient."""
        found: list[Tensor] = []
        for layer in reversed(self.layers):
            found.insert(0, layer.backward_to_wx(dhs))
            if layer is not self.layers[0]:
                dhs = found[0].flatten(2) @ layer.weights.W.flatten(0, 1)
                dhs = dhs if layer.mask is None else dhs * layer.mask
        return found

    # One step, for many steps at once.

    def pull(self, start: int, stop: int, adjoint: Layered, into: Layered, *, dxs: Tensor | None = None) -> None:
        """(2)–(5) at the steps start … stop − 1, each from its own adjoint.

        Args:
            start, stop: the steps.
            adjoint: λ_t, rows (stop − start)·B; becomes ā of (2), (3) in place.
            into: where λ_t J_t goes, for the steps t − 1.
            dxs: (n, I) where the adjoint of the first layer's input goes; None: nobody asks.
        """
        rows = slice(start * self.B, stop * self.B)
        for l in reversed(range(len(self.layers))):
            layer, here = self.layers[l], adjoint[l]
            if self.clip is not None:
                clip_rows(here, self.clip)  # (3)
            layer.pull(rows, here, into[l], wants_dwx=l > 0 or dxs is not None)
            if l > 0:
                layer.pull_input(rows, adjoint[l - 1][0], add=True)  # (2)
            elif dxs is not None:
                layer.pull_input(rows, dxs, add=False)
        self._cut(start, stop, into)

    def _cut(self, start: int, stop: int, into: Layered) -> None:
        """(5): nothing goes to the state that a stream carried before it began anew."""
        for t in self._fresh_steps.intersection(range(start, stop)):
            assert self.fresh is not None, "there is a fresh step"
            for state in into:
                for s in state:
                    s[(t - start) * self.B : (t - start + 1) * self.B][self.fresh[t]] = 0

    def add_gradients(self, total: Layered) -> None:
        """(6), and on to what made the input and the initial states, from the sum of ā over every pull, at all T·B rows."""
        rows, every, restarts = slice(0, self.T * self.B), [], []
        for l, layer in enumerate(self.layers):
            into = tuple(torch.empty_like(s) for s in total[l])
            layer.pull(rows, total[l], into, wants_dwx=True)
            every.append(layer.weight_gradients.of(rows))
            restarts.append(tuple(self._at_fresh(s) for s in into))
            if l == 0 and (self._source.requires_grad if isinstance(self._source, Tensor) else self._source.table.requires_grad):
                dxs = torch.empty_like(layer.xs)
                layer.pull_input(rows, dxs.flatten(0, 1), add=False)
                self._hand_on(dxs)
        self._add_weights(every)
        if self._initial is not None:
            add_to_grads(self._initial, (torch.stack(parts) for parts in zip(*restarts, strict=True)))

    def _at_fresh(self, adjoint: Tensor) -> Tensor:
        """(B, H): the sum over the steps at which each stream began."""
        if self.fresh is None:
            return adjoint.new_zeros(self.B, adjoint.shape[1])
        return torch.where(self.fresh.unsqueeze(2), adjoint.view(self.T, self.B, -1), 0).sum(0)

    # Where gradients go.

    @property
    def _wants_dxs(self) -> bool:
        return isinstance(self._source, Rows) or self._source.requires_grad

    def _gather(self, dxs: Tensor) -> None:
        """Keep what one pass found of the input until ``finish``."""
        if isinstance(self._source, Rows):
            product = self._owned or self._source.product
            assert product is not None, "made at the start"
            product.add(self._source.index, dxs)
        else:
            self._dxs = dxs if self._dxs is None else self._dxs + dxs

    def finish(self) -> None:
        """No adjoint will come any more: hand the gradient of the input on to what made it."""
        if self._owned is not None:
            self._owned.finish()
        if self._dxs is not None:
            self._hand_on(self._dxs)

    def _hand_on(self, dxs: Tensor) -> None:
        if isinstance(self._source, Rows):
            self._source.add_to_table(dxs)
        elif self._source.requires_grad:
            torch.autograd.backward(self._source, dxs)

    def _add_weights(self, found: Iterable[Iterable[Tensor | None]]) -> None:
        stored = (p for l in range(len(self.layers)) for p in self.stack.stored_parameters_of(l))
        add_to_grads(stored, (g for gradients in found for g in gradients))


def add_to_grads(tensors: Iterable[Tensor | None], gradients: Iterable[Tensor | None]) -> None:
    """Hand gradients to whatever made some tensors; a parameter adds its own to its ``grad``."""
    wanted = [
        (p, g.reshape(p.shape)) for p, g in zip(tensors, gradients, strict=True) if p is not None and g is not None and p.requires_grad
    ]
    if wanted:
        torch.autograd.backward([p for p, _ in wanted], [g for _, g in wanted])


def drawn_mask(xs: Tensor, p: float, training: bool) -> Tensor | None:
    """What dropout would multiply ``xs`` by, from the same draws; None where it is off."""
    return functional.dropout(torch.ones_like(xs), p) if training and p > 0 else None


def clip_rows(adjoint: State, limit: float) -> None:
    """(3), each row by itself, all S states of it together, in place."""
    norm = torch.stack([s.square().sum(1) for s in adjoint]).sum(0).sqrt()
    scale = (limit / norm.clamp_min(limit)).unsqueeze(1)
    for s in adjoint:
        s *= scale


def _where_fresh(fresh: Tensor | None, state: State | None, T: int, B: int) -> Tensor | None:
    """(T, B), from (B,) or (T, B); without a carried state every stream begins with the first step."""
    if state is None or (fresh is not None and fresh.ndim == 1):
        rows = torch.zeros(T, B, dtype=torch.bool) if fresh is None or fresh.ndim == 1 else fresh.clone()
        rows[0] = True if state is None else fresh  # type: ignore[assignment]
        fresh = rows
    return fresh if fresh is not None and bool(fresh.any()) else None


def _affine(xs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(T, B, K) by (G, H, K), plus (G, H), as (T, B, G, H)."""
    flat = functional.linear(xs, weight.flatten(0, 1), None if bias is None else bias.flatten())
    return flat.unflatten(2, weight.shape[:2])


def _with_one(xs: Tensor, bias: Tensor | None) -> Tensor:
    return xs if bias is None else functional.pad(xs, (0, 1), value=1.0)
