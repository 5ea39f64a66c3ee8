"""The initial weights. Each rule overwrites weights of a stack in place; a stack applies its rules one after another.

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
    """A rule for some or all weights of a stack of recurrent layers.

    >>> from throughtime import cells, nn
    >>> class Sparse(AbstractInitialiser):  # half of the recurrent weights are 0
    ...     def __call__(self, cell, layers):
    ...         for layer in layers:
    ...             layer.R.bernoulli_(0.5)
    >>> stack = nn.Recurrence(cells.GRU(), 3, 5, initialisers=(nn.TorchUniform(), Sparse()))
    >>> sorted(stack.weight_hh_l0.unique().tolist())
    [0.0, 1.0]
    """

    @abc.abstractmethod
    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        """Overwrite some weights in place.

        Args:
            cell: the stack's cell, which says what its gates mean.
            layers: each layer's weights, as views without gradient.
        """


@final
@dataclass(frozen=True)
class TorchUniform(AbstractInitialiser):
    """Every weight and bias from U(−1/√H, 1/√H), in the order of ``torch.nn``: the same seed gives the same weights as in torch.

    >>> import torch
    >>> from throughtime import cells
    >>> from throughtime.nn import Recurrence
    >>> _, theirs = torch.manual_seed(0), nn.GRU(3, 5)
    >>> _, ours = torch.manual_seed(0), Recurrence(cells.GRU(), 3, 5, initialisers=(TorchUniform(),))
    >>> torch.equal(theirs.weight_hh_l0, ours.weight_hh_l0)
    True
    """

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        for layer in layers:
            bound = 1 / math.sqrt(layer.R.shape[1])
            for p in layer:
                if p is not None:
                    nn.init.uniform_(p, -bound, bound)


def from_torchs(rules: Sequence[AbstractInitialiser]) -> Sequence[AbstractInitialiser]:
    """The rules, begun with ``TorchUniform``: a rule for some weights would leave the others as memory happened to be."""
    return rules if rules and isinstance(rules[0], TorchUniform) else (TorchUniform(), *rules)


@final
@dataclass(frozen=True)
class Orthogonal(AbstractInitialiser):
    """Each gate's recurrent matrix is ``gain`` times an orthogonal matrix. With gain 1 the gradient of a linear network keeps its norm.

    References:
        Saxe, McClelland & Ganguli, *Exact solutions to the nonlinear dynamics of learning*, 2014.

    >>> import torch
    >>> from throughtime import cells
    >>> from throughtime.nn import Recurrence
    >>> R = Recurrence(cells.Elman(), 3, 5, initialisers=(TorchUniform(), Orthogonal())).weight_hh_l0
    >>> torch.allclose(R @ R.T, torch.eye(5), atol=1e-5)
    True
    """

    gain: float = 1.0

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        for layer in layers:
            for R in layer.R:
                nn.init.orthogonal_(R, self.gain)


@final
@dataclass(frozen=True)
class IdentityMatrix(AbstractInitialiser):
    """Each gate's recurrent matrix is ``scale`` times the identity, and the biases are zero. With relu this is the IRNN.

    References:
        Le, Jaitly & Hinton, *A simple way to initialize recurrent networks of rectified linear units*, 2015.

    >>> from throughtime import cells
    >>> from throughtime.nn import Recurrence
    >>> irnn = Recurrence(cells.Elman(cells.Relu()), 3, 5, initialisers=(TorchUniform(), IdentityMatrix()))
    >>> irnn.weight_hh_l0.diagonal().tolist(), irnn.weight_hh_l0.sum().item()
    ([1.0, 1.0, 1.0, 1.0, 1.0], 5.0)
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
    """The bias of the memory gate (f of LSTM, z of GRU) starts at ``value``, the sum of b_ih and b_hh.

    References:
        Gers et al. 2000; Jozefowicz, Zaremba & Sutskever, *An empirical exploration of recurrent network architectures*, 2015.

    Raises:
        NotImplementedError: a cell without a memory gate, or a stack without biases.

    >>> from throughtime import cells
    >>> from throughtime.nn import Recurrence
    >>> stack = Recurrence(cells.LSTM(), 3, 2, initialisers=(TorchUniform(), ForgetBias(1.0)))
    >>> (stack.bias_ih_l0 + stack.bias_hh_l0)[2:4].tolist()
    [1.0, 1.0]
    """

    value: float = 1.0

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        gate = _memory_gate(cell, layers, self)
        for _, _, b_ih, b_hh in layers:
            assert b_ih is not None and b_hh is not None, "_memory_gate refuses layers without"  # noqa: PT018
            b_ih[gate] = self.value
            b_hh[gate : gate + 1] = 0  # a cell without R has none


@final
@dataclass(frozen=True)
class Chrono(AbstractInitialiser):
    """Memory times spread over the sequence: b_f = ln U(1, T_max − 1), and b_i = −b_f if the cell has an input gate.

    Args:
        longest: T_max, the longest lag that matters, in steps; at least 3.

    References:
        Tallec & Ollivier, *Can recurrent neural networks warp time?*, 2018 (eq. 16).

    Raises:
        InputError: longest below 3, when the rule is applied.
        NotImplementedError: a cell without a memory gate, or a stack without biases.

    >>> from throughtime import cells
    >>> from throughtime.nn import Recurrence
    >>> stack = Recurrence(cells.LSTM(), 3, 5, initialisers=(TorchUniform(), Chrono(longest=100)))
    >>> bool((stack.bias_ih_l0[5:10] <= math.log(99)).all())
    True
    """

    longest: int

    def __call__(self, cell: AbstractCell, layers: Sequence[Parameters]) -> None:
        at_least("Chrono.longest", self.longest, 3, remedy="Give the longest lag that matters, in steps.")
        gate, input_gate = _memory_gate(cell, layers, self), cell.input_gate
        for _, _, b_ih, b_hh in layers:
            assert b_ih is not None and b_hh is not None, "_memory_gate refuses layers without"  # noqa: PT018
            b_ih[gate].uniform_(1, self.longest - 1).log_()
            b_hh[gate : gate + 1] = 0
            if input_gate is not None:
                b_ih[input_gate] = -b_ih[gate]
                b_hh[input_gate : input_gate + 1] = 0


def _memory_gate(cell: AbstractCell, layers: Sequence[Parameters], rule: AbstractInitialiser) -> int:
    """The index of the memory gate. Its biases b_ih and b_hh are added, so one of them may hold the whole value."""
    if cell.memory_gate is None or layers[0].b_ih is None:
        raise NotImplementedError(
            f"{rule} needs a cell with a gate that keeps memory, and biases; got {cell}, bias={layers[0].b_ih is not None}. Use GRU() or "
            "LSTM() with bias=True, or Orthogonal() or IdentityMatrix() for the simple network."
        )
    return cell.memory_gate
