"""What a cell owes: one time step of elementwise mathematics, forward and backward.

B batch · G gates · H hidden · S states.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from .._shapes import State
from ._activations import AbstractActivation
from ._derivative import StepDerivative
from ._pullback import AbstractPullback, DiagonalPullback, WholePullback


@final
@dataclass(frozen=True)
class Gate:
    """What is known of one gate.

    Attributes:
        name: its letter in the cell's equations.
        function: what its pre-activation goes through; None: not known.
        opens: whether it scales something else by its value, from 0 (shut) to 1 (open).
    """

    name: str
    function: AbstractActivation | None = None
    opens: bool = False


class AbstractCell(abc.ABC):
    """One step of a recurrent network, without its matrix products.

    A cell is handed both halves of every gate's pre-activation, ``wx = W x + b_ih`` and ``rh = R h + b_hh``: LSTM adds
    them, GRU multiplies one by the reset gate. The products themselves, and the gradients of W and R, belong to the time
    loop, so that they can be batched over time.

    Your own cell needs ``gates``, ``states`` and ``step``; ``step_vjp`` and ``derivative`` are then found by ``torch.func``. Everything
    else here is what the cell says about itself: name its gates, and ``gradient_flow`` reports how open and how saturated they are; name
    its ``memory_gate``, and ``nn.ForgetBias`` and ``nn.Chrono`` know which bias to set.

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
    states: ClassVar[int]  # S: state vectors; state 0 is h, the one that R multiplies and the next layer sees
    memory_gate: ClassVar[int | None] = None  # the gate whose positive bias makes memory last, if the cell has one
    input_gate: ClassVar[int | None] = None  # the gate that lets news in, if it is a gate of its own
    elementwise: bool = False  # True: unit j of the new state depends on unit j of wx, rh and state alone; derivatives are then cheaper
    adds_halves: ClassVar[bool] = False  # True: wx and rh enter as their sum alone, so that dL/dwx = dL/drh

    @property
    def named_gates(self) -> tuple[Gate, ...]:
        """What is known of each of the G gates, in the order of the weights' rows."""
        return tuple(Gate(str(g)) for g in range(self.gates))

    def gate_values(self, wx: Float[Tensor, "N G H"], rh: Float[Tensor, "N G H"]) -> tuple[Float[Tensor, "N H"], ...]:
        """Each gate's value, in the same order; empty for a cell that does not say."""
        return ()

    @abc.abstractmethod
    def step(self, wx: Float[Tensor, "B G H"], rh: Float[Tensor, "B G H"], state: State) -> State:
        """The state after one step, S tensors (B, H), from the state before it."""

    def step_vjp(
        self,
        wx: Float[Tensor, "B G H"],
        rh: Float[Tensor, "B G H"],
        state: State,
        state_next: State,
        dstate: State,
    ) -> tuple[Float[Tensor, "B G H"], Float[Tensor, "B G H"], State]:
        """The gradients of ``wx``, ``rh`` and the elementwise part of ``state``, given those of ``state_next``.

        The part of dL/dh_prev that travels through ``R`` is not in it: the time loop adds ``Rᵀ drh``.
        """
        pull = torch.func.vjp(self.step, wx, rh, state)[1]
        dwx, drh, dprev = pull(dstate)
        return dwx, drh, dprev

    def derivative(self, wx: Float[Tensor, "N G H"], rh: Float[Tensor, "N G H"], state: State) -> StepDerivative:
        """Linearise one step at N points; ``state`` S tensors (N, H)."""
        after = self.step(wx, rh, state)
        rows = [_row(self, wx, rh, state, after, p) for p in range(self.states)]
        by_wx, by_rh, by_state = (torch.stack(parts) for parts in zip(*rows, strict=True))
        return StepDerivative(by_wx, by_rh, by_state, self.elementwise)

    def pullback(self, wx: Float[Tensor, "N G H"], rh: Float[Tensor, "N G H"], state: State) -> AbstractPullback:
        """The transposed derivative at N points, for adjoints that are taken back again and again; ``state`` S tensors (N, H)."""
        if self.elementwise:
            return DiagonalPullback(self.derivative(wx, rh, state))
        return WholePullback(self.step_vjp, wx, rh, state, self.step(wx, rh, state))


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
        return pulled(after[p].new_ones(()))  # each unit of s'_p depends on its own unit alone, so all can be asked at once
    units = [pulled(e) for e in torch.eye(after[p].shape[-1], dtype=after[p].dtype, device=after[p].device)]
    dwx, drh, dstate = (torch.stack(parts, -2) for parts in zip(*units, strict=True))
    return dwx, drh, dstate
