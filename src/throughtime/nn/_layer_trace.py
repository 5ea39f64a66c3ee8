"""One layer of a trace: its run, and the derivative of each of its steps. (4)–(6) are those of ``_trace``.

T time · B batch · n rows of (t, b) · I input · H hidden · G gates · S states.
"""

from functools import cached_property
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from .._shapes import State
from ..cells import AbstractCell, AbstractPullback, StepDerivative, derivative
from ..kernels import (
    LayerParameters,
    Parameters,
    RecurrentParameters,
    Run,
    Start,
    backward,
    forward,
    learned_vectors,
    states,
    vector_derivatives,
    vector_gradients,
)
from ._linearised import LinearisedStep
from ._one_stage import OneStage
from ._rows import Rows
from ._weight_gradients import WeightGradients


@final
class LayerTrace:
    """One layer of a trace, over all T steps. ``Trace.layers`` holds one for each layer of the stack.

    Args:
        cell: the layer's cell.
        weights: W (G, H, I), R (G, H, H), b_ih, b_hh (G, H) or None, without gradient.
        xs: (T, B, I) the layer's input after dropout; or rows of a table with its product.
        mask: (T, B, I) the dropout mask of the input; None: no dropout.
        given: the input as the kernels took it: ``xs``, or for rows the input half wx (T, B, G, H).
        start: the state before the first step, the weights as the kernels took them, and where streams start anew.
        run: what the kernels made of these: the output, the last state, and what ``backward`` needs.
        keep: what is kept for ``backward``; with "none" only the output and the last state are available.

    Attributes:
        run: the output and the last state.
        beginning: ``start``, as it was given.

    >>> from throughtime import cells, nn
    >>> layer = nn.Recurrence(cells.LSTM(), 3, 5).trace(torch.randn(7, 4, 3)).layers[0]
    >>> [s.shape for s in layer.states], layer.wx.shape  # h and c around every step; W x + b of all steps
    ([torch.Size([8, 4, 5]), torch.Size([8, 4, 5])], torch.Size([7, 4, 4, 5]))
    >>> layer.at(3).jacobian().shape  # ∂s_3/∂s_2 of each stream, over (h, c)
    torch.Size([4, 10, 10])
    """

    def __init__(
        self,
        cell: AbstractCell,
        weights: Parameters,
        xs: Tensor | Rows,
        mask: Tensor | None,
        given: Tensor,
        start: Start,
        run: Run,
        keep: Literal["fast", "lean", "none"],
    ) -> None:
        self.cell, self.weights, self.mask = cell, weights, mask
        self.start, self._given_weights, self.traversal = self.beginning = start
        self._whole = OneStage(cell, weights.R) if cell.late_gates > 0 else cell
        self._R = self._whole.without_late(weights.R) if isinstance(self._whole, OneStage) else weights.R
        self.keep: Literal["fast", "lean", "none"] = keep
        self._source, self.given, self.run = xs, given, run

    @cached_property
    def xs(self) -> Tensor:
        """(T, B, I) the input; rows of a table are looked up."""
        return self._source.vectors().detach() if isinstance(self._source, Rows) else self._source

    @cached_property
    def states(self) -> State:
        """S tensors (T + 1, B, H): row t is the state after t steps, before any stream starts anew there."""
        return states(self.cell, self.given, self.start, self._given_weights, self.traversal, self.run, self.keep)

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
        return self.given if isinstance(self._source, Rows) else _affine(self.xs, self.weights.W, self.weights.b_ih)

    @cached_property
    def rh(self) -> Tensor:
        """(T, B, rows of R, H) R h_{t−1} + b_hh, all steps in one product; of late gates R q_t + b_hh."""
        early, late = self._rh_from_h.split((self._early, self.cell.late_gates), 2)
        return self._rh_from_h if self.cell.late_gates == 0 else torch.cat((early, late + _affine(self.between, self._R_late, None)), 2)

    @cached_property
    def between(self) -> Tensor:
        """(T, B, H) q_t, what R multiplies for the late gates."""
        wx, rh, before = self._points()
        with torch.no_grad():
            return self.cell.between(wx, rh[:, : self._early], before).unflatten(0, self.run.hs.shape[:2])

    @cached_property
    def _rh_from_h(self) -> Tensor:
        """(T, B, rows of R, H) R₀ h_{t−1} + b_hh (``_one_stage``)."""
        return _affine(self.before[0], self._R, self.weights.b_hh)

    @cached_property
    def W_inputs(self) -> Tensor:
        """(T, B, I + 1) the inputs of (W, b_ih): x and 1; (T, B, I) without biases."""
        return _with_one(self.xs, self.weights.b_ih)

    @cached_property
    def R_inputs(self) -> Tensor:
        """(T, B, H + 1) the inputs of (R, b_hh): h_{t−1} and 1; (T, B, H) without biases."""
        return _with_one(self.before[0], self.weights.b_hh)

    @cached_property
    def derivative(self) -> StepDerivative:
        """The cell's derivative at all T·B points, time first."""
        return derivative(self._whole, *self._points())

    @cached_property
    def by_own(self) -> Tensor | None:
        """(S, V, T·B, H) the derivative of an elementwise cell's step by its own learned vectors; None if it has none."""
        return vector_derivatives(self.cell, *self._points()) if self.cell.elementwise and learned_vectors(self.cell) else None

    def everywhere(self) -> LinearisedStep:
        """All steps as one linear map of T·B points."""
        mask = None if self.mask is None else self.mask.flatten(0, 1)
        return LinearisedStep(self.weights.W, self._R, self.derivative, mask, self.by_own)

    def at(self, t: int) -> LinearisedStep:
        """Step t as a linear map of B points."""
        mask = None if self.mask is None else self.mask[t]
        if not self._whole.elementwise:  # matrices, too many to have at all steps
            d = derivative(self._whole, self.wx[t], self._rh_from_h[t], tuple(s[t] for s in self.before))
            return LinearisedStep(self.weights.W, self._R, d, mask)
        B, d = self.run.hs.shape[1], self.derivative
        by_wx, by_rh, by_state = (x.narrow(2, t * B, B) for x in (d.by_wx, d.by_rh, d.by_state))
        by_own = None if self.by_own is None else self.by_own.narrow(2, t * B, B)
        return LinearisedStep(self.weights.W, self._R, StepDerivative(by_wx, by_rh, by_state, d.elementwise), mask, by_own)

    def at_points(self, t: Tensor, b: Tensor) -> LinearisedStep:
        """The steps at N pairs (t, b) as a linear map in float64."""
        wx, rh, before = self.wx[t, b].double(), self._rh_from_h[t, b].double(), tuple(s[t, b].double() for s in self.before)
        mask = None if self.mask is None else self.mask[t, b].double()
        whole = OneStage(self.cell, self.weights.R.double()) if self.cell.late_gates > 0 else self.cell
        return LinearisedStep(self.weights.W.double(), self._R.double(), derivative(whole, wx, rh, before), mask)

    @cached_property
    def pullback(self) -> AbstractPullback:
        """(4), with everything that does not depend on the adjoint computed once."""
        return self._whole.pullback(*self._points())

    @cached_property
    def weight_gradients(self) -> WeightGradients:
        """(6) for the result of the last ``pull``, in buffers allocated once."""
        found = WeightGradients(self.weights, self.xs, self.before[0], self.pullback)
        return found if self.cell.late_gates == 0 else found.with_late(self._early * self.run.hs.shape[2], self.between)

    def vector_gradients(self, rows: slice, adjoint: State) -> Tensor | None:
        """The gradients of the cell's own learned vectors, (V, H), after ``pull`` of ``adjoint``, ā, at some rows; None if it has none."""
        if not learned_vectors(self.cell):
            return None
        wx, _, before = self._points()
        late = self.pullback.drh[rows, self._early :].flatten(1)
        dbetween = None if self.cell.late_gates == 0 else late @ self._R_late.flatten(0, 1)
        return vector_gradients(self.cell, wx[rows], self.rh.flatten(0, 1)[rows], tuple(s[rows] for s in before), adjoint, dbetween)

    def pull(self, rows: slice, adjoint: State, into: State, *, wants_dwx: bool) -> None:
        """(4), (5) for some rows, from ā; ``into`` receives S tensors (n, H)."""
        beta = int(self.pullback.apply(rows, adjoint, into, wants_dwx=wants_dwx))
        drh = self.pullback.drh[rows].flatten(1)
        torch.addmm(into[0], drh, self._R.flatten(0, 1), beta=beta, out=into[0])  # (5)

    def pull_input(self, rows: slice, into: Tensor, *, add: bool) -> None:
        """Write m ⊙ Wᵀ dwx of the last pulled rows to ``into`` (n, I), or add it."""
        dwx, W = self.pullback.dwx[rows].flatten(1), self.weights.W.flatten(0, 1)
        if self.mask is None:
            torch.addmm(into, dwx, W, beta=int(add), out=into)
        else:
            dx = torch.mm(dwx, W).mul_(self.mask.flatten(0, 1)[rows])
            into.add_(dx) if add else into.copy_(dx)

    def backward_to_wx(self, dhs: Tensor) -> Tensor:
        """The adjoints of wx, (T, B, G, H), from those of every output, by the same recursion."""
        half, run, keep = RecurrentParameters(self.weights.R, self.weights.b_hh), self.run, self.keep
        if run.kernels == "native":  # its graph begins at x, so that wx needs a run of its own
            run, keep = forward(self.cell, self.wx, self.start, half, self.traversal), "fast"
        ends = tuple(torch.zeros_like(s) for s in self.start)
        dwx = backward(self.cell, self.wx, half, run, dhs, ends, self.traversal, keep=keep).dxs
        assert dwx is not None, "needs_dxs is True by default"
        return dwx

    def _points(self) -> tuple[Tensor, Tensor, State]:
        """wx, rh (T·B, G, H) and the states before, S of (T·B, H)."""
        return self.wx.flatten(0, 1), self._rh_from_h.flatten(0, 1), tuple(s.flatten(0, 1) for s in self.before)

    @property
    def _early(self) -> int:
        """How many of R's gates multiply h."""
        return self.cell.rh_gates - self.cell.late_gates

    @property
    def _R_late(self) -> Tensor:
        return self.weights.R[self._early :]


def given_to_kernels(cell: AbstractCell, xs: Tensor | Rows, weights: Parameters) -> tuple[Tensor, LayerParameters]:
    """A layer's input and weights as the kernels take them: rows of a table as the input half wx (T, B, G, H)."""
    if isinstance(xs, Rows):
        return xs.input_half(cell.gates), RecurrentParameters(weights.R, weights.b_hh)
    return xs, weights


def _affine(xs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(T, B, K) by (G, H, K), plus (G, H), as (T, B, G, H)."""
    flat = functional.linear(xs, weight.flatten(0, 1), None if bias is None else bias.flatten())
    return flat.unflatten(2, weight.shape[:2])


def _with_one(xs: Tensor, bias: Tensor | None) -> Tensor:
    return xs if bias is None else functional.pad(xs, (0, 1), value=1.0)
