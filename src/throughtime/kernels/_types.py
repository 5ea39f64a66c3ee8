"""The arguments and results that the plain loop and every fast kernel share.

T time · B batch · I input · H hidden · G gates · S states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from .._shapes import State

Memory = Literal["fast", "lean"]  # what a layer keeps for backward: every gate, or enough to recompute them


class Parameters(NamedTuple):
    """One layer's weights, in torch's gate order. ``recurrence`` also accepts them as torch stores them, (G·H, ·).

    >>> import torch
    >>> weights = Parameters(torch.ones(3, 5, 2), torch.ones(3, 5, 5), None, None)
    >>> weights.map(lambda p: 2 * p).R.mean().item()
    2.0
    """

    W: Tensor  # (G, H, I)
    R: Tensor  # (G, H, H)
    b_ih: Tensor | None  # (G, H)
    b_hh: Tensor | None  # (G, H)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Parameters":
        """Apply ``function`` to every weight that is not None."""
        W, R, b_ih, b_hh = self
        return Parameters(function(W), function(R), None if b_ih is None else function(b_ih), None if b_hh is None else function(b_hh))


class RecurrentParameters(NamedTuple):
    """The weights of a layer that takes the input half wx = W x + b_ih (T, B, G, H), computed by the caller.

    >>> import torch
    >>> from throughtime.cells import GRU
    >>> from throughtime.kernels import RecurrentParameters, recurrence
    >>> hs, _ = recurrence(GRU(), torch.zeros(7, 4, 3, 5), (torch.ones(4, 5),), RecurrentParameters(torch.zeros(3, 5, 5), None))
    >>> hs[:, 0, 0].tolist()[:3]  # h' = z h with z = σ(0)
    [0.5, 0.25, 0.125]
    """

    R: Tensor  # (G, H, H)
    b_hh: Tensor | None  # (G, H)

    def map(self, function: Callable[[Tensor], Tensor]) -> "RecurrentParameters":
        """Apply ``function`` to every weight that is not None."""
        return RecurrentParameters(function(self.R), None if self.b_hh is None else function(self.b_hh))


LayerParameters = Parameters | RecurrentParameters


def flat(parameters: LayerParameters) -> tuple[Tensor | None, Tensor, Tensor | None, Tensor | None]:
    """W, R, b_ih, b_hh, for functions that take them one by one; W and b_ih are None for ``RecurrentParameters``."""
    return parameters if isinstance(parameters, Parameters) else (None, parameters.R, None, parameters.b_hh)


def from_flat(W: Tensor | None, R: Tensor, b_ih: Tensor | None, b_hh: Tensor | None) -> LayerParameters:
    """The reverse of ``flat``."""
    return RecurrentParameters(R, b_hh) if W is None else Parameters(W, R, b_ih, b_hh)


@dataclass(frozen=True)
class Traversal:
    """How time is traversed: the direction, where each sequence ends, and where a state restarts.

    Attributes:
        lengths: (B,) sequence b has steps t < lengths[b]. After them its output is zero and its state does not change.
        reset: (T, B) True replaces the state of b by ``restart`` before step t, in the order of traversal; no gradient crosses.
        restart: S tensors (B, H); None for zeros.
        reverse: from each sequence's end to 0.

    >>> import torch
    >>> from throughtime.cells import GRU
    >>> from throughtime.kernels import Parameters, Traversal, recurrence
    >>> weights = Parameters(torch.randn(3, 5, 2), torch.randn(3, 5, 5), None, None)
    >>> short = Traversal(lengths=torch.tensor([7, 2]))
    >>> hs, _ = recurrence(GRU(), torch.randn(7, 2, 2), (torch.zeros(2, 5),), weights, traversal=short)
    >>> hs[2:, 1].abs().max().item()  # the second sequence has two steps
    0.0
    """

    lengths: Tensor | None = None
    reset: Tensor | None = None
    restart: State | None = None
    reverse: bool = False


FORWARD = Traversal()


class Start(NamedTuple):
    """One of several layers, but for its input: the state before the first step, the weights, and how time is traversed."""

    state: State
    parameters: LayerParameters
    traversal: Traversal


class Run(NamedTuple):
    """The result of a forward pass, as ``forward`` returns it.

    >>> import torch
    >>> from throughtime.cells import LSTM
    >>> from throughtime.kernels import Parameters, forward
    >>> weights = Parameters(torch.randn(4, 5, 2), torch.randn(4, 5, 5), None, None)
    >>> run = forward(LSTM(), torch.randn(7, 3, 2), (torch.zeros(3, 5), torch.zeros(3, 5)), weights)
    >>> torch.equal(run.hs[-1], run.last[0])
    True
    """

    hs: Tensor  # (T, B, H) every step's h
    last: State  # S tensors (B, H): each sequence's state at its own end
    residuals: tuple[Tensor, ...]  # what backward needs; private to the implementation that made them
    kernels: Literal["packed", "native", "plain"] = "plain"  # which implementation made them
    graph: Any = None  # what torch's own kernels keep instead of residuals


class Gradients(NamedTuple):
    """The result of a backward pass, as ``backward`` returns it; None for what was not asked for or does not exist.

    >>> import torch
    >>> from throughtime.cells import LSTM
    >>> from throughtime.kernels import Parameters, backward, forward
    >>> weights = Parameters(torch.randn(4, 5, 2), torch.randn(4, 5, 5), None, None)
    >>> xs, state = torch.randn(7, 3, 2), (torch.zeros(3, 5), torch.zeros(3, 5))
    >>> d = backward(LSTM(), xs, weights, forward(LSTM(), xs, state, weights), torch.ones(7, 3, 5), (None, None))
    >>> d.dxs.shape, [s.shape for s in d.dstate], d.drestart
    (torch.Size([7, 3, 2]), [torch.Size([3, 5]), torch.Size([3, 5])], None)
    """

    dxs: Tensor | None  # (T, B, I)
    dstate: State  # S tensors (B, H)
    parameters: LayerParameters  # shaped as the parameters
    drestart: State | None  # S tensors (B, H)
    vectors: Tensor | None = None  # (L, H) of the cell's own learned vectors
