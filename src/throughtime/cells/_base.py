"""What a cell owes: one time step of elementwise mathematics, forward and backward.

B batch · G gates · H hidden · S states.
"""

import abc
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from .._shapes import State
from ._derivative import derivative
from ._pullback import AbstractPullback, DiagonalPullback, WholePullback


class AbstractCell(abc.ABC):
    """One step of a recurrent network, without its matrix products.

    A cell is handed both halves of every gate's pre-activation, ``wx = W x + b_ih`` and ``rh = R h + b_hh``: LSTM adds
    them, GRU multiplies one by the reset gate. The products themselves, and the gradients of W and R, belong to the time
    loop, so that they can be batched over time.

    Your own cell needs ``gates``, ``states`` and ``step``; ``step_vjp`` is then found by ``torch.func``.
    """

    gates: ClassVar[int]  # G: rows of W and R, per hidden unit
    states: ClassVar[int]  # S: state vectors; state 0 is h, the one that R multiplies and the next layer sees
    memory_gate: ClassVar[int | None] = None  # the gate whose positive bias makes memory last, if the cell has one
    input_gate: ClassVar[int | None] = None  # the gate that lets news in, if it is a gate of its own
    elementwise: bool = False  # True: unit j of the new state depends on unit j of wx, rh and state alone; derivatives are then cheaper

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

    def pullback(self, wx: Float[Tensor, "N G H"], rh: Float[Tensor, "N G H"], before: State) -> AbstractPullback:
        """The step's transposed derivative at N points, for adjoints that are taken back again and again; ``before`` S tensors (N, H)."""
        if self.elementwise:
            return DiagonalPullback(derivative(self, wx, rh, before))
        return WholePullback(self.step_vjp, wx, rh, before, self.step(wx, rh, before))
