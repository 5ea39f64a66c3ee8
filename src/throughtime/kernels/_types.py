"""What the plain loop and every fast kernel agree on: parameters in, run out, gradients back.

T time · B batch · I input · H hidden · G gates · S states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from .._shapes import State

Memory = Literal["fast", "lean"]  # what a layer keeps for backward: every gate, or enough to compute them again


class Parameters(NamedTuple):
    """One layer's weights. Rows keep torch's gate order; the gate axis is an axis, but where they are given as torch stores them."""

    W: Tensor  # (G, H, I)
    R: Tensor  # (G, H, H)
    b_ih: Tensor | None  # (G, H)
    b_hh: Tensor | None  # (G, H)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Parameters":
        """The same of every weight there is."""
        W, R, b_ih, b_hh = self
        return Parameters(function(W), function(R), None if b_ih is None else function(b_ih), None if b_hh is None else function(b_hh))


class RecurrentParameters(NamedTuple):
    """The weights of a layer whose input is the input half wx = W x + b_ih (T, B, G, H) itself, made by the caller."""

    R: Tensor  # (G, H, H)
    b_hh: Tensor | None  # (G, H)

    def map(self, function: Callable[[Tensor], Tensor]) -> "RecurrentParameters":
        """The same of every weight there is."""
        return RecurrentParameters(function(self.R), None if self.b_hh is None else function(self.b_hh))


LayerParameters = Parameters | RecurrentParameters


def flat(parameters: LayerParameters) -> tuple[Tensor | None, Tensor, Tensor | None, Tensor | None]:
    """W, R, b_ih, b_hh, for functions of torch and of the extension that take them one by one."""
    return parameters if isinstance(parameters, Parameters) else (None, parameters.R, None, parameters.b_hh)


def from_flat(W: Tensor | None, R: Tensor, b_ih: Tensor | None, b_hh: Tensor | None) -> LayerParameters:
    """The reverse of ``flat``."""
    return RecurrentParameters(R, b_hh) if W is None else Parameters(W, R, b_ih, b_hh)


@dataclass(frozen=True)
class Traversal:
    """How time is traversed: which way, where each sequence ends, where a state restarts.

    ``lengths`` (B,): sequence b is stepped through t < lengths[b]; beyond, its output is zero and its state stands still.
    ``reset`` (T, B): before step t, in the order of travel, the state of b is replaced by ``restart`` (S tensors (B, H), or
    None for zeros) and no gradient crosses. ``reverse``: from each sequence's end to 0.
    """

    lengths: Tensor | None = None
    reset: Tensor | None = None
    restart: State | None = None
    reverse: bool = False


FORWARD = Traversal()


class Run(NamedTuple):
    """What a forward pass leaves behind."""

    hs: Tensor  # (T, B, H) every step's h
    last: State  # S tensors (B, H): each sequence's state at its own end
    residuals: tuple[Tensor, ...]  # what backward needs; private to the implementation that made it
    kernels: Literal["packed", "native", "plain"] = "plain"  # which implementation that was
    graph: Any = None  # what torch's own kernels leave in place of residuals


class Gradients(NamedTuple):
    """What a backward pass returns; None where there was nothing to differentiate."""

    dxs: Tensor | None  # (T, B, I)
    dstate: State  # S tensors (B, H)
    parameters: LayerParameters  # as the parameters
    drestart: State | None  # S tensors (B, H)
