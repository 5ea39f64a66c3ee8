"""A model of frames: it reads vectors, one a step, and says how the next one is distributed.

T time · B batch · D width of a frame · n outputs a number.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from .. import _check
from ..cells import GRU, AbstractCell
from ..data import Batch
from ..nn import AbstractInitial, AbstractInitialiser, Recurrence, TorchUniform, Zeros
from ._base import AbstractModel
from ._config import CELLS, from_plain
from ._head import Head
from ._inputs import Vectors
from ._losses import AbstractLoss, BinaryCrossEntropy, Linear, SigmoidOutput
from ._regression import GaussianLikelihood

_LOSSES: dict[str, AbstractLoss] = {"bernoulli": BinaryCrossEntropy(), "gaussian": GaussianLikelihood()}


@final
class FrameModel(AbstractModel):
    """p(x_{t+1} | x_1 … x_t) = Π_d p(x_{t+1,d}): each number of the next frame is drawn for itself, given all frames so far.

    The loss of a step is −ln p of its target frame, in nats, summed over the D numbers: its mean is the negative log-likelihood a frame
    of Boulanger-Lewandowski et al. Numbers of the same frame that depend on each other (the notes of a chord) need a model of the whole
    frame, such as their RNN-RBM, which this is not.

    Args:
        size: D.
        loss: ``BinaryCrossEntropy()``, for numbers 0 and 1; or ``GaussianLikelihood()``, a mean and a standard deviation of each number.
        cell: the recurrent cell.
        hidden_size: H.
        num_layers: L.
        dropout: the probability of dropout, in training, on the input, between layers and before the head.
        input_dropout: the same of the input alone; None: ``dropout``.
        initial: the rule for the state before the first step.
        initialisers: the rules for the recurrent weights.
        reduction: the loss is the "mean" of the frames that count, or their "sum".

    Raises:
        InputError: sizes below 1, another loss.

    >>> import torch
    >>> from throughtime import Batch, gradients
    >>> model, rolls = FrameModel(88, hidden_size=8), torch.rand(13, 5, 88).round()
    >>> loss, carry = gradients.FullBPTT().accumulate(model, Batch(rolls[:-1], rolls[1:]))
    >>> model.sample(rolls, 20, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([20, 5, 88])

    References:
        Boulanger-Lewandowski, Bengio & Vincent, *Modeling temporal dependencies in high-dimensional sequences*, 2012. Bai, Kolter &
        Koltun, *An empirical evaluation of generic convolutional and recurrent networks for sequence modeling*, 2018.
    """

    def __init__(
        self,
        size: int,
        *,
        loss: AbstractLoss = BinaryCrossEntropy(),  # noqa: B008  a frozen dataclass
        cell: AbstractCell = GRU(),  # noqa: B008  a frozen dataclass
        hidden_size: int = 128,
        num_layers: int = 1,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        initial: AbstractInitial = Zeros(),  # noqa: B008  a frozen dataclass
        initialisers: Sequence[AbstractInitialiser] = (TorchUniform(),),
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        if not isinstance(loss, BinaryCrossEntropy | GaussianLikelihood):
            raise _check.InputError(f"loss is {loss!r}; expected BinaryCrossEntropy() or GaussianLikelihood(), which can be drawn from.")
        recurrence = Recurrence(cell, size, hidden_size, num_layers=num_layers, dropout=dropout, initial=initial, initialisers=initialisers)
        if isinstance(loss, GaussianLikelihood):
            head = Head(hidden_size, loss.outputs * size, output=Linear(), loss=loss)
        else:
            head = Head(hidden_size, size, output=SigmoidOutput(), loss=loss)
        self._set_stations(Vectors(size), recurrence, head, dropout=dropout, input_dropout=input_dropout, reduction=reduction)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "FrameModel":
        """A model from plain values, such as those of a JSON file.

        Args:
            config: the arguments of the class, with a cell ("rnn" "gru" "lstm") and a loss ("bernoulli" "gaussian") by name.

        Raises:
            InputError: a name that is none, an argument that the class does not have.

        >>> FrameModel.from_config({"size": 4, "loss": "gaussian", "hidden_size": 8}).head.weight.shape
        torch.Size([8, 8])
        """
        return from_plain(cls, config, {"cell": CELLS, "loss": _LOSSES})

    @torch.no_grad()
    def sample(
        self, prompt: Float[Tensor, "T B D"], length: int, *, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Float[Tensor, "N B D"]:
        """Draw frames one after another, each from p(· | prompt, those before it).

        Args:
            prompt: at least one frame.
            length: N, how many frames to draw.
            temperature: logits are divided by it, or deviations multiplied; 0 takes the likeliest frame.
            generator: the random generator; None: torch's global one.

        Raises:
            InputError: an empty prompt or one of another width, a length below 1, a negative temperature.
        """
        if prompt.ndim != 3 or 0 in prompt.shape:
            raise _check.InputError(f"the prompt has shape {tuple(prompt.shape)}; expected frames (T, B, D) with T at least 1.")
        _check.positive("length", length)
        _check.at_least("temperature", temperature, 0.0)
        frames, inputs, state = [], prompt, self.drawn_initial_state(prompt.shape[1], generator)
        was_training = self.training
        self.eval()
        try:
            for _ in range(length):
                hs, state = self.recurrence(self.embed(Batch(inputs)), state)
                inputs = self._drawn(self.head(hs[-1:]), temperature, generator)
                frames.append(inputs)
        finally:
            self.train(was_training)
        return torch.cat(frames)

    def _drawn(self, o: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
        """Frames (·, B, D) from the head's output (·, B, nD)."""
        loss = self.head.loss
        if isinstance(loss, GaussianLikelihood):
            noise = torch.randn(o[..., : o.shape[-1] // 2].shape, generator=generator, dtype=o.dtype).to(o.device)
            return loss.point(o) + temperature * loss.deviation(o) * noise
        if temperature == 0:
            return (o > 0).to(o)
        chance = torch.rand(o.shape, generator=generator, dtype=o.dtype).to(o.device)
        return (chance < torch.sigmoid(o / temperature)).to(o)
