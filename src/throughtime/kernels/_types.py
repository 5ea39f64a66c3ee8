"""What the plain loop and every fast kernel agree on: parameters in, run out, gradients back.

T time · B batch · I input · H hidden · G gates · S states.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from .._shapes import State

Memory = Literal["fast", "lean"]  # what a layer keeps for backward: every gate, or enough to compute them again


class Parameters(NamedTuple):
    """One layer's weights. Rows keep torch's gate order; the gate axis is an axis.

    Without W (and b_ih) a layer's input is the input half wx (T, B, G, H) itself, made by the caller.
    """

    W: Tensor | None  # (G, H, I)
    R: Tensor  # (G, H, H)
    b_ih: Tensor | None  # (G, H)
    b_hh: Tensor | None  # (G, H)


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
    parameters: Parameters  # as the parameters
    drestart: State | None  # S tensors (B, H)
