"""A trace: one run of a stack over a sequence, with everything that the derivatives of its steps need.

All adjoints, tangents and Jacobians of a stack are computed here. The state of the whole stack at step t is
s_t = (s_t^0, …, s_t^{L−1}), one part for each layer, and J_t = ∂s_t/∂s_{t−1}. With W^l, R^l a layer's weights and m^l the dropout mask
of its input,

    s_t^l = f(W^l x_t^l + b_ih, R^l h_{t−1}^l + b_hh, s_{t−1}^l),   x_t^l = m_t^l ⊙ h_t^{l−1}       (1)

A lag counts time steps only: a path from layer to layer within a step has lag 0. With λ_t the adjoint that arrives at s_t, one
step back is, from the top layer down,

    ā^l   = λ_t^l + m ⊙ (Wᵀ dwx)^{l+1}, into its h-part             (2)     from later steps, and from the layer above
    ā^l   ← ā^l · min(1, clip / ‖ā^l‖)                              (3)     only with clipping at each time step
    dwx^l, drh^l, ds^l = the cell's step, transposed, of ā^l        (4)
    (λ_t J_t)^l = ds^l, its h-part + Rᵀ drh^l                       (5)     if a stream started at t, to its initial state

The gradient is linear in ā, so that the ā of any number of passes can be summed first:

    dW = Σ_t dwx_t ⊗ x_t,  dR = Σ_t drh_t ⊗ h_{t−1},  db_ih = Σ_t dwx_t,  db_hh = Σ_t drh_t         (6)     once, at the end.

``Trace.backward`` is the recursion over all steps, by the fast kernels. ``Trace.pull`` is (2)–(5) for many steps at once, each with an
adjoint of its own. ``LayerTrace.at`` is one step as a linear map, for tangents and Jacobians.

T time · B batch · n rows of (t, b) · I input · H hidden · G gates · L layers · S states.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor

from .._shapes import State
from ..cells import AbstractCell
from ..kernels import (
    FORWARD,
    Gradients,
    LayerParameters,
    Parameters,
    Start,
    Traversal,
    backward_stack,
    flat,
    forward_stack,
    learned_vectors,
)
from ._dropout import drawn_mask
from ._layer_trace import LayerTrace, given_to_kernels
from ._linearised import LinearisedStack
from ._rows import Rows, TableProduct

LayerStates = list[State]  # for each layer its S tensors (n, H); the rows are pairs (t, b), with b varying fastest


class Stack(NamedTuple):
    """What a trace is made over."""

    cells: list[AbstractCell]  # each layer's
    weights: list[Parameters]  # each layer's, as they are stored, (G·H, ·): gradients are added to their ``grad``
    dropout: float  # on each layer's output but the last one's; 0 where it is off

    def layer(self, l: int) -> Parameters:
        """One layer's weights with the gate axis, without gradient."""
        W, R, b_ih, b_hh = (None if p is None else p.detach() for p in self.weights[l])
        assert W is not None and R is not None, "biases alone may be None"  # noqa: PT018
        gates, rows, H = self.cells[l].gates, self.cells[l].rh_gates, R.shape[1]
        return Parameters(
            W.view(gates, H, -1),
            R.view(rows, H, H),
            None if b_ih is None else b_ih.view(gates, H),
            None if b_hh is None else b_hh.view(rows, H),
        )


@final
class Trace:
    """One run of a stack over T steps of B streams, without autograd's graph, with what its derivatives need.

    ``Recurrence.trace`` makes it. Its methods add gradients to the ``grad`` of the stack's parameters, of its initial state and of the
    parameters behind ``xs``; those behind ``xs`` get theirs in ``finish``.

    Attributes:
        layers: a ``LayerTrace`` for each layer, bottom first.
        hs: (T, B, H) every step's h of the last layer.
        last: the state after the last step, S tensors (L, B, H).
        fresh: (T, B) True where a stream starts anew; None: nowhere.

    >>> from throughtime import cells, nn
    >>> stack, xs = nn.Recurrence(cells.GRU(), 3, 5), torch.randn(7, 4, 3)
    >>> trace, dhs = stack.trace(xs), torch.randn(7, 4, 5)
    >>> adjoint = trace.backward(dhs, None)  # adds to every p.grad
    >>> found = stack.weight_hh_l0.grad.clone()
    >>> stack.zero_grad()
    >>> (stack(xs)[0] * dhs).sum().backward()  # the same by autograd
    >>> torch.allclose(found, stack.weight_hh_l0.grad, atol=1e-4)
    True
    """

    def __init__(
        self,
        stack: Stack,
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
        self.T, self.B = xs.shape[:2]
        self.fresh = _where_fresh(fresh, state, self.T, self.B, stack.weights[0].R.device)
        self._fresh_steps = set() if self.fresh is None else set(self.fresh.any(1).nonzero().flatten().tolist())
        self._initial = initial if self._fresh_steps else None
        self._owned = TableProduct(stack.weights[0], xs.table) if isinstance(xs, Rows) and xs.product is None else None
        self._dxs: Tensor | None = None
        with torch.no_grad():
            self.layers = self._run(self._first_input(mask), mask, state, keep)
        self.hs = self.layers[-1].run.hs
        self.last = tuple(torch.stack(parts) for parts in zip(*(layer.run.last for layer in self.layers), strict=True))

    def _first_input(self, mask: Tensor | None) -> Tensor | Rows:
        """The first layer's input: vectors after dropout, or rows with the table's product."""
        if isinstance(self._source, Rows):
            return self._source if self._owned is None else self._source.with_product(self._owned)
        xs = self._source.detach()
        return xs if mask is None else xs * mask

    def _run(
        self, below: Tensor | Rows, mask: Tensor | None, state: State | None, keep: Literal["fast", "lean", "none"]
    ) -> list[LayerTrace]:
        layers: list[LayerTrace] = []
        for group in self._groups():
            if layers:
                mask = drawn_mask(layers[-1].run.hs, self.stack.dropout)
                below = layers[-1].run.hs if mask is None else layers[-1].run.hs * mask
            layers += self._run_group(group, below, mask, state, keep)
        return layers

    def _groups(self) -> list[range]:
        """Layers that are one call of the kernels: all, if they have one cell and no dropout between them."""
        L, alike = len(self.stack.weights), all(cell is self.stack.cells[0] for cell in self.stack.cells)
        return [range(L)] if self.stack.dropout == 0 and alike else [range(l, l + 1) for l in range(L)]

    def _run_group(
        self, group: range, xs: Tensor | Rows, mask: Tensor | None, state: State | None, keep: Literal["fast", "lean", "none"]
    ) -> list[LayerTrace]:
        cell, weights = self.stack.cells[group.start], [self.stack.layer(l) for l in group]
        given, first = given_to_kernels(cell, xs, weights[0])
        starts = [self._beginning(l, state, w) for l, w in zip(group, [first, *weights[1:]], strict=True)]
        runs = forward_stack(cell, given, starts, clip=self.clip, keep=keep)
        layers = [LayerTrace(cell, weights[0], xs, mask, given, starts[0], runs[0], keep)]
        for w, start, run in zip(weights[1:], starts[1:], runs[1:], strict=True):
            hs = layers[-1].run.hs
            layers.append(LayerTrace(cell, w, hs, None, hs, start, run, keep))
        return layers

    def _beginning(self, l: int, state: State | None, weights: LayerParameters) -> Start:
        """A layer's state before the first step, and the traversal that replaces it later."""
        carried = None if state is None else tuple(s[l].detach() for s in state)
        if self._initial is None or self.fresh is None:
            assert carried is not None, "without a carried state every stream is fresh"
            return Start(carried, weights, FORWARD)
        initial = tuple(s[l].detach().contiguous() for s in self._initial)
        first = self.fresh[0].unsqueeze(1)
        start = initial if carried is None else tuple(torch.where(first, new, old) for new, old in zip(initial, carried, strict=True))
        traversal = Traversal(reset=self.fresh, restart=initial) if self._fresh_steps - {0} else FORWARD
        return Start(start, weights, traversal)

    def state_after(self, t: int) -> State:
        """The state after t steps, S tensors (L, B, H), before any stream starts anew at step t."""
        return tuple(torch.stack(parts) for parts in zip(*(tuple(s[t] for s in layer.states) for layer in self.layers), strict=True))

    def zeros(self, steps: int) -> LayerStates:
        """Adjoints of 0 at ``steps`` steps."""
        return [tuple(s.new_zeros(steps * self.B, s.shape[1]) for s in layer.start) for layer in self.layers]

    def at(self, t: int) -> LinearisedStack:
        """Step t of all layers as a linear map at B points."""
        return LinearisedStack([layer.at(t) for layer in self.layers])

    def at_points(self, t: Tensor, b: Tensor) -> LinearisedStack:
        """The steps of all layers at N pairs (t, b) as a linear map in float64."""
        return LinearisedStack([layer.at_points(t, b) for layer in self.layers])

    # The whole recursion.

    def backward(self, dhs: Tensor | None, dlast: State | None) -> State:
        """Take adjoints from every output and the last state back to the first step, by the fast kernels.

        Adds (6) to the parameters' gradients. It may be called several times with different adjoints.

        Args:
            dhs: the adjoints of every output, (T, B, H); None: zeros.
            dlast: the adjoint of the last state, S tensors (L, B, H); None: zeros.

        Returns:
            The adjoint of the state that was carried in, S tensors (L, B, H): zero for streams that started anew.
        """
        found: list[Gradients] = []
        for group in reversed(self._groups()):
            layers = [self.layers[l] for l in group]
            ends = [
                tuple(map(torch.zeros_like, y.start)) if dlast is None else tuple(s[l] for s in dlast)
                for l, y in zip(group, layers, strict=True)
            ]
            found[:0] = backward_stack(
                self.stack.cells[group.start], layers[0].given, [y.beginning for y in layers], [y.run for y in layers], dhs, ends,
                clip=self.clip, needs_dxs=group.start > 0 or self._wants_dxs, keep=layers[0].keep,
            )  # fmt: skip
            dhs = found[0].dxs if layers[0].mask is None or found[0].dxs is None else found[0].dxs * layers[0].mask
        if dhs is not None:
            self._gather(dhs)
        self._add_weights([flat(d.parameters) for d in found])
        for cell, d in zip(self.stack.cells, found, strict=True):
            _add_to_vectors(cell, d.vectors)
        return self._to_carried(found)

    def _to_carried(self, found: list[Gradients]) -> State:
        """The adjoint of the carried state. What belongs to initial states is backpropagated to their parameters."""
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
        """Each layer's ∂L/∂wx (T, B, G, H), from the adjoints of every output. No gradient is changed."""
        found: list[Tensor] = []
        for layer in reversed(self.layers):
            found.insert(0, layer.backward_to_wx(dhs))
            if layer is not self.layers[0]:
                dhs = found[0].flatten(2) @ layer.weights.W.flatten(0, 1)
                dhs = dhs if layer.mask is None else dhs * layer.mask
        return found

    # One step, for many steps at once.

    def pull(self, start: int, stop: int, adjoint: LayerStates, into: LayerStates, *, dxs: Tensor | None = None) -> None:
        """(2)–(5) at the steps start … stop − 1, each from its own adjoint.

        Args:
            start: the first step.
            stop: one after the last step.
            adjoint: λ_t, (stop − start)·B rows; overwritten by ā of (2), (3).
            into: receives λ_t J_t, for the steps t − 1.
            dxs: (n, I) receives the adjoint of the first layer's input; None: it is not computed.
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

    def _cut(self, start: int, stop: int, into: LayerStates) -> None:
        """(5): the adjoint is 0 at the state before a stream started anew."""
        for t in self._fresh_steps.intersection(range(start, stop)):
            assert self.fresh is not None, "there is a fresh step"
            for state in into:
                for s in state:
                    s[(t - start) * self.B : (t - start + 1) * self.B][self.fresh[t]] = 0

    def add_gradients(self, total: LayerStates) -> None:
        """Add (6) to all gradients, also behind the input and the initial states.

        Args:
            total: the sum of ā over all pulls, at all T·B rows.
        """
        rows, every, restarts = slice(0, self.T * self.B), [], []
        for l, layer in enumerate(self.layers):
            into = tuple(torch.empty_like(s) for s in total[l])
            layer.pull(rows, total[l], into, wants_dwx=True)
            every.append(layer.weight_gradients.of(rows))
            _add_to_vectors(layer.cell, layer.vector_gradients(rows, total[l]))
            restarts.append(tuple(self._at_fresh(s) for s in into))
            if l == 0 and (self._source.requires_grad if isinstance(self._source, Tensor) else self._source.table.requires_grad):
                dxs = torch.empty_like(layer.xs)
                layer.pull_input(rows, dxs.flatten(0, 1), add=False)
                self._hand_on(dxs)
        self._add_weights(every)
        if self._initial is not None:
            add_to_grads(self._initial, (torch.stack(parts) for parts in zip(*restarts, strict=True)))

    def _at_fresh(self, adjoint: Tensor) -> Tensor:
        """(B, H): the sum over the steps at which each stream started."""
        if self.fresh is None:
            return adjoint.new_zeros(self.B, adjoint.shape[1])
        return torch.where(self.fresh.unsqueeze(2), adjoint.view(self.T, self.B, -1), 0).sum(0)

    # Where gradients go.

    @property
    def _wants_dxs(self) -> bool:
        return isinstance(self._source, Rows) or self._source.requires_grad

    def _gather(self, dxs: Tensor) -> None:
        """Keep one pass's gradient of the input until ``finish``."""
        if isinstance(self._source, Rows):
            product = self._owned or self._source.product
            assert product is not None, "made at the start"
            product.add(self._source.index, dxs)
        else:
            self._dxs = dxs if self._dxs is None else self._dxs + dxs

    def finish(self) -> None:
        """Backpropagate the gradient of the input to the parameters behind it. Call it once, after the last ``backward``."""
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
        add_to_grads((p for weights in self.stack.weights for p in weights), (g for gradients in found for g in gradients))


def add_to_grads(tensors: Iterable[Tensor | None], gradients: Iterable[Tensor | None]) -> None:
    """Backpropagate gradients from some tensors through their graphs; a parameter adds its gradient to ``grad``.

    Args:
        tensors: parameters or functions of parameters; None and tensors that require no gradient are skipped.
        gradients: one for each tensor, of any shape with as many numbers; None is skipped.
    """
    wanted = [
        (p, g.reshape(p.shape)) for p, g in zip(tensors, gradients, strict=True) if p is not None and g is not None and p.requires_grad
    ]
    if wanted:  # a parametrised weight's graph may be needed again
        torch.autograd.backward([p for p, _ in wanted], [g for _, g in wanted], retain_graph=True)


def _add_to_vectors(cell: AbstractCell, gradients: Tensor | None) -> None:
    """Add the gradients (V, H) of a cell's own learned vectors; None: there are none."""
    if gradients is not None:
        vectors = learned_vectors(cell)
        add_to_grads(vectors, (g.sum_to_size(p.shape) for p, g in zip(vectors, gradients, strict=True)))


def clip_rows(adjoint: State, limit: float) -> None:
    """(3) for each row, over all its S states together, in place."""
    norm = torch.stack([s.square().sum(1) for s in adjoint]).sum(0).sqrt()
    scale = (limit / norm.clamp_min(limit)).unsqueeze(1)
    for s in adjoint:
        s *= scale


def _where_fresh(fresh: Tensor | None, state: State | None, T: int, B: int, device: torch.device) -> Tensor | None:
    """(T, B), from (B,) or (T, B). Without a carried state every stream starts at the first step."""
    if state is None or (fresh is not None and fresh.ndim == 1):
        rows = torch.zeros(T, B, dtype=torch.bool, device=device) if fresh is None or fresh.ndim == 1 else fresh.clone()
        rows[0] = True if state is None else fresh  # type: ignore[assignment]
        fresh = rows
    return fresh.to(device) if fresh is not None and bool(fresh.any()) else None
