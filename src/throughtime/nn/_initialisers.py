"""Where the weights start. Each is applied to a stack of layers in place; several may follow one another.

G gates · H hidden · I input.
"""

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from .._check import at_least

if TYPE_CHECKING:
    from ._stack import Recurrence


class AbstractInitialiser(abc.ABC):
    """A rule for some or all weights of a stack of recurrent layers."""

    @abc.abstractmethod
    def __call__(self, stack: "Recurrence") -> None:
        """Overwrite the weights that the rule speaks of; leave the others."""


@final
@dataclass(frozen=True)
class TorchUniform(AbstractInitialiser):
    """Every weight and bias from U(−1/√H, 1/√H), in the order of ``torch.nn``: the same seed gives the same weights."""

    def __call__(self, stack: "Recurrence") -> None:
        bound = 1 / math.sqrt(stack.hidden_size)
        for layer in range(stack.num_layers):
            for p in stack.flat_parameters(layer):
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

    def __call__(self, stack: "Recurrence") -> None:
        for R in _recurrent_matrices(stack):
            nn.init.orthogonal_(R, self.gain)


@final
@dataclass(frozen=True)
class IdentityMatrix(AbstractInitialiser):
    """Each gate's recurrent matrix ``scale`` times the identity, biases zero; with relu, the IRNN.

    References:
        Le, Jaitly & Hinton, *A simple way to initialize recurrent networks of rectified linear units*, 2015.
    """

    scale: float = 1.0

    def __call__(self, stack: "Recurrence") -> None:
        for R in _recurrent_matrices(stack):
            nn.init.eye_(R).mul_(self.scale)
        for layer in range(stack.num_layers):
            for b in stack.flat_parameters(layer)[2:]:
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

    def __call__(self, stack: "Recurrence") -> None:
        gate = _memory_gate(stack, self)
        for b_ih, b_hh in _gate_biases(stack):
            b_ih[gate] = self.value
            b_hh[gate] = 0


@final
@dataclass(frozen=True)
class Chrono(AbstractInitialiser):
    """Memory times spread over the sequence: b_f = ln U(1, T_max − 1), and b_i = −b_f where there is an input gate.

    References:
        Tallec & Ollivier, *Can recurrent neural networks warp time?*, 2018 (eq. 16).
    """

    longest: int  # T_max, in steps

    def __call__(self, stack: "Recurrence") -> None:
        at_least("Chrono.longest", self.longest, 3, remedy="Give the longest lag that matters, in steps.")
        gate, input_gate = _memory_gate(stack, self), stack.cell.input_gate
        for b_ih, b_hh in _gate_biases(stack):
            b_ih[gate].uniform_(1, self.longest - 1).log_()
            b_hh[gate] = 0
            if input_gate is not None:
                b_ih[input_gate] = -b_ih[gate]
                b_hh[input_gate] = 0


def _recurrent_matrices(stack: "Recurrence") -> list[Tensor]:
    """Every gate's (H, H) block of every layer, as views without gradient."""
    return [R for layer in range(stack.num_layers) for R in stack.parameters_of(layer).R.detach()]


def _gate_biases(stack: "Recurrence") -> list[tuple[Tensor, Tensor]]:
    """Each layer's b_ih and b_hh (G, H), as views without gradient. They are added before the gate, so one may hold the whole value."""
    layers = [stack.parameters_of(layer) for layer in range(stack.num_layers)]
    return [(p.b_ih.detach(), p.b_hh.detach()) for p in layers if p.b_ih is not None and p.b_hh is not None]


def _memory_gate(stack: "Recurrence", rule: AbstractInitialiser) -> int:
    if stack.cell.memory_gate is None or not stack.bias:
        raise NotImplementedError(
            f"{rule} needs a cell with a gate that keeps memory, and biases; got {stack.cell}, bias={stack.bias}. Use GRU() or LSTM() "
            "with bias=True, or Orthogonal() or IdentityMatrix() for the simple network."
        )
    return stack.cell.memory_gate
