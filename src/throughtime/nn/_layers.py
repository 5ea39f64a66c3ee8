"""``RNN``, ``GRU`` and ``LSTM`` with the interface of ``torch.nn``, on the packed kernels, with more options than torch's."""

from collections.abc import Callable
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from .._check import InputError
from ..cells import GRU as GRUStep, LSTM as LSTMStep, AbstractCell
from ..kernels import Memory
from ._cells import ACTIVATIONS, elman
from ._layer_base import Layers

Nonlinearity = Literal["tanh", "relu", "identity", "sigmoid"] | Callable[[Tensor], Tensor]
NOT_IN_TORCH = ("identity", "sigmoid")


@final
class RNN(Layers, nn.RNN):
    """``torch.nn.RNN``, faster on a CPU, with the options of ``Layers``.

    Args:
        nonlinearity: "tanh", "relu", "identity", "sigmoid", or a torch callable from (B, H) to (B, H).

    >>> layer = RNN(3, 5, nonlinearity="sigmoid")
    >>> output, h_n = layer(torch.zeros(7, 4, 3), lengths=[7, 2, 0, 5])
    >>> output.shape, h_n.shape
    (torch.Size([7, 4, 5]), torch.Size([1, 4, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Nonlinearity = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        learn_h0: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        state_batch_first: bool = False,
        memory: Memory = "fast",
        proj_size: int = 0,  # for torch's own sentence about it
    ) -> None:
        _refuse_projection(proj_size)
        if not callable(nonlinearity) and not isinstance(nonlinearity, str):
            raise InputError(f"nonlinearity is {nonlinearity!r}; expected {', '.join(map(repr, ACTIVATIONS))} or a callable.")
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity="tanh" if callable(nonlinearity) or nonlinearity in NOT_IN_TORCH else nonlinearity,  # torch refuses other words
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            device=device,
            dtype=dtype,
            learn_h0=learn_h0,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            layer_norm=layer_norm,
            state_batch_first=state_batch_first,
            memory=memory,
        )
        self.nonlinearity = nonlinearity

    def _step(self) -> AbstractCell:
        phi: Any = self.nonlinearity
        return elman(phi)

    def extra_repr(self) -> str:
        return ", ".join([super().extra_repr(), *self._beyond_names()])

    def beyond_torch(self) -> list[str]:
        return super().beyond_torch() + self._beyond_names()

    def _beyond_names(self) -> list[str]:
        return [] if self.nonlinearity in ("tanh", "relu") else [f"nonlinearity={self.nonlinearity!r}"]

    def to_torch(self) -> nn.RNN:
        """``torch.nn.RNN`` with the same weights.

        Raises:
            NotImplementedError: an option that torch's lacks, by name.
        """
        return self._to_torch(nn.RNN, **{} if self.beyond_torch() else {"nonlinearity": self.nonlinearity})


@final
class GRU(Layers, nn.GRU):
    """``torch.nn.GRU``, faster on a CPU, with the options of ``Layers``.

    >>> layer = GRU(3, 5, batch_first=True, learn_h0=True)
    >>> output, h_n = layer(torch.zeros(4, 7, 3), reset=torch.rand(7, 4) < 0.1)
    >>> output.shape, h_n.shape
    (torch.Size([4, 7, 5]), torch.Size([1, 4, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        learn_h0: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        state_batch_first: bool = False,
        memory: Memory = "fast",
        proj_size: int = 0,  # for torch's own sentence about it
    ) -> None:
        _refuse_projection(proj_size)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            device=device,
            dtype=dtype,
            learn_h0=learn_h0,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            layer_norm=layer_norm,
            state_batch_first=state_batch_first,
            memory=memory,
        )

    def _step(self) -> AbstractCell:
        return GRUStep()

    def to_torch(self) -> nn.GRU:
        """``torch.nn.GRU`` with the same weights.

        Raises:
            NotImplementedError: an option that torch's lacks, by name.
        """
        return self._to_torch(nn.GRU)


@final
class LSTM(Layers, nn.LSTM):
    """``torch.nn.LSTM`` including projections, faster on a CPU, with the options of ``Layers``.

    >>> layer = LSTM(3, 5, bidirectional=True)
    >>> output, (h_n, c_n) = layer(torch.zeros(7, 4, 3))
    >>> output.shape, h_n.shape, c_n.shape
    (torch.Size([7, 4, 10]), torch.Size([2, 4, 5]), torch.Size([2, 4, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        learn_h0: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        state_batch_first: bool = False,
        memory: Memory = "fast",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            device=device,
            dtype=dtype,
            learn_h0=learn_h0,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            layer_norm=layer_norm,
            state_batch_first=state_batch_first,
            memory=memory,
        )

    def _step(self) -> AbstractCell:
        return LSTMStep()

    def to_torch(self) -> nn.LSTM:
        """``torch.nn.LSTM`` with the same weights.

        Raises:
            NotImplementedError: an option that torch's lacks, by name.
        """
        return self._to_torch(nn.LSTM, proj_size=self.proj_size)


def _refuse_projection(proj_size: int) -> None:
    if proj_size:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


torch.serialization.add_safe_globals([RNN, GRU, LSTM])  # their state is tensors, numbers and words
