"""``torch.nn.RNNCell``, ``GRUCell`` and ``LSTMCell`` with the same face, and any activation.

B batch · I input · H hidden.

One step has no time to keep its weights packed over: the packed kernels took 1.4 to 2.4 times as long for it as torch's own step,
which has every transform and derivative already. So it is torch's that runs.
"""

from collections.abc import Callable
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from ..cells import Elman, Identity, Relu, Sigmoid, Tanh

NAMED = {"tanh": Tanh(), "relu": Relu(), "identity": Identity(), "sigmoid": Sigmoid()}


def elman(nonlinearity: str | Callable[[Tensor], Tensor]) -> Elman:
    """The simple network's cell by the name of its activation, or by the activation."""
    return Elman(NAMED[nonlinearity] if isinstance(nonlinearity, str) else nonlinearity)


@final
class RNNCell(nn.RNNCell):
    """``torch.nn.RNNCell``.

    Args:
        nonlinearity: "tanh", "relu", "identity", "sigmoid", or a torch callable from (B, H) to (B, H).

    >>> import torch
    >>> RNNCell(3, 5, nonlinearity="sigmoid")(torch.zeros(4, 3)).shape
    torch.Size([4, 5])
    """

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """As torch's: the next h, (B, H) or (H,)."""
        if self.nonlinearity in ("tanh", "relu") or (isinstance(self.nonlinearity, str) and self.nonlinearity not in NAMED):
            return super().forward(input, hx)  # whose sentence about an unknown word is torch's
        linear = functional.linear(input, self.weight_ih, self.bias_ih)
        if hx is None:
            hx = linear.new_zeros(*input.shape[:-1], self.hidden_size)
        return elman(self.nonlinearity).phi(linear + functional.linear(hx, self.weight_hh, self.bias_hh))


@final
class GRUCell(nn.GRUCell):
    """``torch.nn.GRUCell``.

    >>> import torch
    >>> GRUCell(3, 5)(torch.zeros(4, 3)).shape
    torch.Size([4, 5])
    """


@final
class LSTMCell(nn.LSTMCell):
    """``torch.nn.LSTMCell``.

    >>> import torch
    >>> h, c = LSTMCell(3, 5)(torch.zeros(4, 3))
    >>> h.shape, c.shape
    (torch.Size([4, 5]), torch.Size([4, 5]))
    """
