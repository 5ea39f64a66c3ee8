"""A forecaster: it reads vectors and says, at every step, what the targets of the next K steps will be.

T time · B batch · I input · V targets · K horizon · n outputs a value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

from torch import Tensor

from .. import _check
from ..cells import GRU, AbstractCell
from ..nn import AbstractInitial, AbstractInitialiser, Recurrence, TorchUniform, Zeros
from ._base import AbstractModel
from ._config import CELLS, from_plain
from ._head import Head
from ._inputs import Vectors
from ._losses import Linear
from ._regression import AbsoluteError, AbstractRegression, GaussianLikelihood, Huber, MeanSquaredError, Quantiles

_LOSSES: dict[str, AbstractRegression] = {
    "squared": MeanSquaredError(),
    "absolute": AbsoluteError(),
    "huber": Huber(),
    "gaussian": GaussianLikelihood(),
    "quantiles": Quantiles(),
}


@final
class Forecaster(AbstractModel):
    """ŷ_{t+1} … ŷ_{t+K} = V h_t + c for the targets of the next K steps, from all that has been read up to t.

    Targets of a batch are (T, B, K V): step t has the V targets of t+1, then those of t+2, and so on. A NaN is a value that nobody knows.

    Args:
        input_size: I.
        targets: V.
        horizon: K.
        cell: the recurrent cell.
        hidden_size: H.
        num_layers: L.
        dropout: the probability of dropout, in training, on the input, between layers and before the head.
        input_dropout: the same of the input alone; None: ``dropout``.
        loss: ``MeanSquaredError() AbsoluteError() Huber() GaussianLikelihood() Quantiles()``; the last two give intervals.
        initial: the rule for the state before the first step.
        initialisers: the rules for the recurrent weights.
        reduction: the loss is the "mean" of the steps that count, or their "sum".

    Raises:
        InputError: sizes below 1.

    >>> import torch
    >>> from throughtime import Batch, gradients
    >>> model = Forecaster(3, targets=2, horizon=4, hidden_size=8, loss=GaussianLikelihood())
    >>> batch = Batch(torch.randn(12, 5, 3), torch.randn(12, 5, 8))
    >>> loss, carry = gradients.FullBPTT().accumulate(model, batch)
    >>> o, state = model(batch.inputs)
    >>> model.point(o).shape, model.interval(o, 0.9)[0].shape  # (T, B, K, V)
    (torch.Size([12, 5, 4, 2]), torch.Size([12, 5, 4, 2]))
    """

    def __init__(
        self,
        input_size: int,
        targets: int = 1,
        *,
        horizon: int = 1,
        cell: AbstractCell = GRU(),  # noqa: B008  a frozen dataclass
        hidden_size: int = 128,
        num_layers: int = 1,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        loss: AbstractRegression = MeanSquaredError(),  # noqa: B008  a frozen dataclass
        initial: AbstractInitial = Zeros(),  # noqa: B008  a frozen dataclass
        initialisers: Sequence[AbstractInitialiser] = (TorchUniform(),),
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.targets, self.horizon = _check.positive("targets", targets), _check.positive("horizon", horizon)
        _check.instance("loss", loss, AbstractRegression, "MeanSquaredError() or Quantiles()")
        input = Vectors(input_size)
        recurrence = Recurrence(
            cell, input_size, hidden_size, num_layers=num_layers, dropout=dropout, initial=initial, initialisers=initialisers
        )
        head = Head(hidden_size, loss.outputs * horizon * targets, output=Linear(), loss=loss)
        self.regression = loss
        self._set_stations(input, recurrence, head, dropout=dropout, input_dropout=input_dropout, reduction=reduction)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Forecaster":
        """A model from plain values, such as those of a JSON file.

        Args:
            config: the arguments of the class, with a cell ("rnn" "gru" "lstm") and a loss ("squared" "absolute" "huber" "gaussian"
                "quantiles") by name.

        Raises:
            InputError: a name that is none, an argument that the class does not have.

        >>> Forecaster.from_config({"input_size": 3, "cell": "lstm", "loss": "huber", "hidden_size": 8}).regression
        Huber(delta=1.0, factor=1.0)
        """
        return from_plain(cls, config, {"cell": CELLS, "loss": _LOSSES})

    def point(self, o: Tensor) -> Tensor:
        """The forecasts (…, K, V) in the head's output o (…, n K V)."""
        return self._by_step(self.regression.point(o))

    def interval(self, o: Tensor, level: float) -> tuple[Tensor, Tensor] | None:
        """The ends (…, K, V) of an interval that holds a value with probability ``level``; None where the loss has none."""
        found = self.regression.interval(o, level)
        return None if found is None else (self._by_step(found[0]), self._by_step(found[1]))

    def value_at(self, o: Tensor, u: Tensor) -> Tensor | None:
        """The values (…, K, V) below which what comes lies with probability u (…, K, V); None where the loss gives no distribution."""
        found = self.regression.value_at(o, u.flatten(-2))
        return None if found is None else self._by_step(found)

    def probability(self, o: Tensor, y: Tensor) -> Tensor | None:
        """The probabilities (…, K, V) of less than the targets y (…, K V); None where the loss gives no distribution."""
        found = self.regression.probability(o, y)
        return None if found is None else self._by_step(found)

    def _by_step(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.horizon, self.targets))
