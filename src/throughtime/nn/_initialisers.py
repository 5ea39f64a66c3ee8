"""Where the weights start. Each rule is applied to a stack's layers in place; several may follow one another.

G gates · H hidden · I input.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import nn

from .._check import at_least
from ..cells import AbstractCell
from ..kernels import Parameters


class AbstractInitialiser(abc.ABC):
    """A rule for some or all weights of a stack of recurrent layers."""

    @abc.abstractmethod
    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        """Overwrite, in place, the weights that the rule speaks of; leave the others.

        Args:
            cell: what the gates mean.
            layers: each layer's weights, as views without gradient.
        """


@final
@dataclass(frozen=True)
class TorchUniform(AbstractInitialiser):
    """Every weight and bias from U(−1/√H, 1/√H), in the order of ``torch.nn``: the same seed gives the same weights."""

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        for layer in layers:
            bound = 1 / math.sqrt(layer.R.shape[1])
            for p in layer:
                if p is not None:
                    nn.init.uniform_(p, -bound, bound)


@final
@dataclass(frozen=True)
class Orthogonal(AbstractInitialiser):
    """Each gate's recurrent matrix orthogonal, times ``gain``: a linear network then neither vanishes nor explodes.

    References:
        Saxe, McClelland & Ganguli, *Exact solutions to the nonlinear dynamics of learning*, 2014.
    """

    gain: float = 1.0

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        for layer in layers:
            for R in layer.R:
                nn.init.orthogonal_(R, self.gain)


@final
@dataclass(frozen=True)
class IdentityMatrix(AbstractInitialiser):
    """Each gate's recurrent matrix ``scale`` times the identity, biases zero; with relu, the IRNN.

    References:
        Le, Jaitly & Hinton, *A simple way to initialize recurrent networks of rectified linear units*, 2015.
    """

    scale: float = 1.0

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        for layer in layers:
            for R in layer.R:
                nn.init.eye_(R).mul_(self.scale)
            for b in (layer.b_ih, layer.b_hh):
                if b is not None:
                    nn.init.zeros_(b)


@final
@dataclass(frozen=True)
class ForgetBias(AbstractInitialiser):
    """The bias of the gate that keeps memory (LSTM's f, GRU's z) starts at ``value``, its two halves together.

    References:
        Gers et al. 2000; Jozefowicz, Zaremba & Sutskever, *An empirical exploration of recurrent network architectures*, 2015.
    """

    value: float = 1.0

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        gate = _memory_gate(cell, layers, self)
        for _, _, b_ih, b_hh in layers:
            assert b_ih is not None and b_hh is not None, "_memory_gate refuses layers without"  # noqa: PT018
            b_ih[gate] = self.value
            b_hh[gate] = 0


@final
@dataclass(frozen=True)
class Chrono(AbstractInitialiser):
    """Memory times spread over the sequence: b_f = ln U(1, T_max − 1), and b_i = −b_f where there is an input gate.

    References:
        Tallec & Ollivier, *Can recurrent neural networks warp time?*, 2018 (eq. 16).

    >>> from throughtime import cells
    >>> from throughtime.nn import Recurrence
    >>> stack = Recurrence(cells.LSTM(), 3, 5, initialisers=(TorchUniform(), Chrono(longest=100)))
    >>> bool((stack.bias_ih_l0[5:10] <= math.log(99)).all())
    True
    """

    longest: int  # T_max, in steps

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        at_least("Chrono.longest", self.longest, 3, remedy="Give the longest lag that matters, in steps.")
        gate, input_gate = _memory_gate(cell, layers, self), cell.input_gate
        for _, _, b_ih, b_hh in layers:
            assert b_ih is not None and b_hh is not None, "_memory_gate refuses layers without"  # noqa: PT018
            b_ih[gate].uniform_(1, self.longest - 1).log_()
            b_hh[gate] = 0
            if input_gate is not None:
                b_ih[input_gate] = -b_ih[gate]
                b_hh[input_gate] = 0


def _memory_gate(cell: AbstractCell, layers: Sequence[Parameters], rule: AbstractInitialiser) -> int:
    """The gate that keeps memory. The halves b_ih and b_hh are added before it, so one of them may hold the whole value."""
    if cell.memory_gate is None or layers[0].b_ih is None:
        raise NotImplementedError(
            f"{rule} needs a cell with a gate that keeps memory, and biases; got {cell}, bias={layers[0].b_ih is not None}. Use GRU() or "
            "LSTM() with bias=True, or Orthogonal() or IdentityMatrix() for the simple network."
        )
    return cell.memory_gate
