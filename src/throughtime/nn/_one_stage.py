"""A cell with late gates as a cell of one stage that mixes its units, so that one linear algebra serves both.

Late gates multiply not h but q = between(wx, rh, s). With R' their blocks of R, the step of the whole is

    f'(wx, a, s) = f(wx, [a_early, a_late + R' q(wx, a_early, s)], s),    a = R₀ h + b_hh       (1)

where R₀ is R with the blocks of the late gates set to zero. f' has the derivatives of the step, R₀ takes the place of R, and the adjoint of
a_late is that of the late gates' rh. The gradient of R' is the sum of its outer products with q.

B batch · N points · G gates · H hidden.
"""

from typing import final

import torch
from torch import Tensor

from .._shapes import State
from ..cells import AbstractCell


@final
class OneStage(AbstractCell):
    """(1).

    Args:
        cell: one with late gates.
        R: (rows, H, H) all blocks of R.
    """

    def __init__(self, cell: AbstractCell, R: Tensor) -> None:
        self.cell, self.gates, self.states = cell, cell.gates, cell.states  # type: ignore[misc]
        self.recurrent_gates, self._early = cell.rh_gates, cell.rh_gates - cell.late_gates  # type: ignore[misc]
        self._late = R[self._early :].flatten(0, 1)  # (late · H, H)

    def step(self, wx: Tensor, rh: Tensor, state: State) -> State:
        q = self.cell.between(wx, rh[:, : self._early], state)
        late = rh[:, self._early :] + (q.to(self._late) @ self._late.T).to(rh.dtype).unflatten(1, (-1, q.shape[1]))
        return self.cell.step(wx, torch.cat((rh[:, : self._early], late), 1), state)

    def without_late(self, R: Tensor) -> Tensor:
        """R₀."""
        return torch.cat((R[: self._early], torch.zeros_like(R[self._early :])))
