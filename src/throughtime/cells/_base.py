"""The interface of a cell: one time step of elementwise mathematics, forward and backward.

B batch · G gates · E gates that have a half rh (G but for special structures of R) · H hidden · S states.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .._shapes import State
from .._torch_private import functorch_is_active
from ._activations import AbstractActivation
from ._derivative import StepDerivative
from ._pullback import AbstractPullback, DiagonalPullback, WholePullback


@final
@dataclass(frozen=True)
class Gate:
    """A gate of a cell.

    Attributes:
        name: its letter in the cell's equations.
        function: the activation of its pre-activation; None if unknown.
        opens: True if its value, from 0 (shut) to 1 (open), multiplies another quantity.

    >>> from throughtime.cells import GRU
    >>> [gate.name for gate in GRU().named_gates if gate.opens]
    ['r', 'z']
    """

    name: str
    function: AbstractActivation | None = None
    opens: bool = False


class AbstractCell(abc.ABC):
    """One step of a recurrent network, without its matrix products.

    A cell receives both halves of every gate's pre-activation, ``wx = W x + b_ih`` and ``rh = R h + b_hh``. LSTM adds
    them; GRU multiplies one of them by the reset gate. The time loop computes the products and the gradients of W and R, so
    that they can be batched over time.

    Your own cell defines ``gates``, ``states`` and ``step``. By default torch derives ``step_vjp`` and ``derivative``. The other
    members describe the cell: ``gradient_flow`` reports how open and how saturated its ``named_gates`` are, and ``nn.ForgetBias``
    and ``nn.Chrono`` set the bias of its ``memory_gate``.

    R has one row of blocks for each gate, unless the cell says otherwise by ``recurrent_gates``: 0 of them leave R out, and each unit
    then depends on its own past alone. The last ``late_gates`` of them multiply not h but ``between(...)``, which the other gates decide,
    such as r ⊙ h. What restricts the entries of R, such as a mask or a sign, is ``constraint``.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Minimal(AbstractCell):  # h' = (1 − f) tanh(wx_n + rh_n) + f h,  f = σ(wx_f)
    ...     gates, states = 2, 1
    ...     elementwise = True
    ...     memory_gate = 0
    ...     def step(self, wx, rh, state):
    ...         f, n = torch.sigmoid(wx[:, 0]), torch.tanh(wx[:, 1] + rh[:, 1])
    ...         return ((1 - f) * n + f * state[0],)
    >>> wx, rh, h = torch.zeros(4, 2, 3), torch.zeros(4, 2, 3), torch.ones(4, 3)
    >>> Minimal().step(wx, rh, (h,))[0][0].tolist()
    [0.5, 0.5, 0.5]
    >>> Minimal().derivative(wx, rh, (h,)).by_state.mean().item()
    0.5
    """

    gates: ClassVar[int]  # G: rows of W and R, per hidden unit
    states: ClassVar[int]  # S: state vectors; state 0 is h, which R multiplies and which is the next layer's input
    memory_gate: ClassVar[int | None] = None  # the gate whose positive bias makes memory last, if the cell has one
    input_gate: ClassVar[int | None] = None  # the gate that scales what enters the memory, if it is not the memory gate itself
    elementwise: bool = False  # True: unit j of the new state depends on unit j of wx, rh and state alone; derivatives are then cheaper
    adds_halves: ClassVar[bool] = False  # True: the step depends on wx + rh alone, so that dL/dwx = dL/drh
    recurrent_gates: ClassVar[int | None] = None  # rows of R per hidden unit; None: gates; 0: there is no R, and rh is empty
    late_gates: ClassVar[int] = 0  # of the recurrent gates the last ones, whose R multiplies ``between``

    @property
    def rh_gates(self) -> int:
        """How many gates have a half rh: the rows of R per hidden unit."""
        return self.gates if self.recurrent_gates is None else self.recurrent_gates

    @property
    def named_gates(self) -> tuple[Gate, ...]:
        """The G gates, in the order of the weights' rows."""
        return tuple(Gate(str(g)) for g in range(self.gates))

    def gate_values(self, wx: Float[Tensor, "N G H"], rh: Float[Tensor, "N E H"]) -> tuple[Float[Tensor, "N H"], ...]:
        """Each gate's value, in the order of ``named_gates``; empty unless the cell defines it."""
        return ()

    @abc.abstractmethod
    def step(self, wx: Float[Tensor, "B G H"], rh: Float[Tensor, "B E H"], state: State) -> State:
        """The state after one step, S tensors (B, H), from the state before it."""

    def between(self, wx: Float[Tensor, "B G H"], rh: Float[Tensor, "B E H"], state: State) -> Float[Tensor, "B H"]:
        """What R multiplies for the ``late_gates``, from the E = ``rh_gates`` − ``late_gates`` halves rh that come before them."""
        raise NotImplementedError(
            f"{type(self).__name__} has late_gates = {self.late_gates} and no `between` that says what they multiply."
        )

    def constraint(self, hidden_size: int) -> nn.Module | None:
        """A function of R as it is stored, (rows · H, H), that gives R as it is used; None: R is free. ``nn.Recurrence`` registers it."""
        return None

    def step_vjp(
        self,
        wx: Float[Tensor, "B G H"],
        rh: Float[Tensor, "B E H"],
        state: State,
        state_next: State,
        dstate: State,
    ) -> tuple[Float[Tensor, "B G H"], Float[Tensor, "B E H"], State]:
        """The gradients of ``wx``, ``rh`` and the elementwise part of ``state``, given those of ``state_next``.

        The path of dL/dh_prev through ``R`` is not included: the time loop adds ``Rᵀ drh``.
        """
        return _vjp(self.step, wx, rh, state, dstate)

    def between_vjp(self, wx: Tensor, rh: Tensor, state: State, dbetween: Tensor) -> tuple[Tensor, Tensor, State]:
        """The gradients of the arguments of ``between``, given that of its result."""
        return _vjp(lambda *given: (self.between(*given),), wx, rh, state, (dbetween,))

    def derivative(self, wx: Float[Tensor, "N G H"], rh: Float[Tensor, "N E H"], state: State) -> StepDerivative:
        """Linearise one step at N points; ``state`` S tensors (N, H)."""
        after = self.step(wx, rh, state)
        rows = [_row(self, wx, rh, state, after, p) for p in range(self.states)]
        by_wx, by_rh, by_state = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return StepDerivative(by_wx, by_rh, by_state, self.elementwise)

    def pullback(self, wx: Float[Tensor, "N G H"], rh: Float[Tensor, "N E H"], state: State) -> AbstractPullback:
        """The transposed derivative at N points, prepared once and applied to many adjoints; ``state`` S tensors (N, H)."""
        if self.elementwise:
            return DiagonalPullback(self.derivative(wx, rh, state))
        return WholePullback(self.step_vjp, wx, rh, state, self.step(wx, rh, state))


def _vjp(function: Callable[..., State], wx: Tensor, rh: Tensor, state: State, arriving: State) -> tuple[Tensor, Tensor, State]:
    """The gradients of wx, rh and the states, given those of the function's results."""
    given = (wx, rh, *state)
    if functorch_is_active() or (torch.is_grad_enabled() and any(x.requires_grad for x in (*given, *arriving))):
        dwx, drh, dprev = torch.func.vjp(function, wx, rh, state)[1](arriving)
        return dwx, drh, dprev
    with torch.enable_grad():  # a third of the time of torch.func's
        leaves = [x.detach().requires_grad_() for x in given]
        after = function(leaves[0], leaves[1], tuple(leaves[2:]))
        graded = [(s, d) for s, d in zip(after, arriving, strict=True) if s.requires_grad]
        found = torch.autograd.grad([s for s, _ in graded], leaves, [d for _, d in graded], materialize_grads=True, allow_unused=True)
    return found[0], found[1], found[2:]


def derivative(cell: AbstractCell, wx: Tensor, rh: Tensor, state: State) -> StepDerivative:
    """Linearise one step at N points: ``wx``, ``rh`` (N, G, H), ``state`` S tensors (N, H).

    >>> from throughtime.cells import Elman, Identity
    >>> linear = derivative(Elman(Identity()), torch.zeros(4, 1, 3), torch.zeros(4, 1, 3), (torch.zeros(4, 3),))
    >>> linear.by_rh.shape, float(linear.by_rh.min())
    (torch.Size([1, 1, 4, 3]), 1.0)
    """
    return cell.derivative(wx, rh, state)


def _row(cell: AbstractCell, wx: Tensor, rh: Tensor, state: State, after: State, p: int) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives of s'_p: by_wx[p] (G, N, H), by_rh[p], by_state[p] (S, N, H), with an axis of H more where units mix."""

    def pulled(e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seeds = tuple(e.expand_as(s) if q == p else torch.zeros_like(s) for q, s in enumerate(after))
        dwx, drh, dstate = cell.step_vjp(wx, rh, state, after, seeds)
        return dwx.transpose(0, 1), drh.transpose(0, 1), torch.stack(dstate)

    if cell.elementwise:
        return pulled(after[p].new_ones(()))  # each unit of s'_p depends on its own unit alone, so one product finds all of them
    units = [pulled(e) for e in torch.eye(after[p].shape[-1], dtype=after[p].dtype, device=after[p].device)]
    dwx, drh, dstate = (torch.stack(parts, -2) for parts in zip(*units, strict=True))
    return dwx, drh, dstate
