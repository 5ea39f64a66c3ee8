"""A neural language model: it reads indices and gives a distribution over the next symbol.

T time · B batch · V vocabulary · E embedding · H hidden · L layers.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from .. import _check
from .._shapes import State
from ..cells import GRU, AbstractCell
from ..data import Batch
from ..nn import AbstractInitial, AbstractInitialiser, Recurrence, TorchUniform, Zeros
from ._base import AbstractModel
from ._head import Head
from ._inputs import Embedding, OneHot


@final
class LanguageModel(AbstractModel):
    """p(w_{t+1} | w_1 … w_t) = softmax(V h_t + c), with h_t the last layer's h of a recurrent stack (Mikolov et al. 2010).

    Args:
        vocabulary_size: V.
        cell: the recurrent cell.
        hidden_size: H.
        num_layers: L.
        embedding_size: E; 0 for one-hot inputs; None for H.
        dropout: the probability of dropout, in training, on the embedding, between layers and before the head (Zaremba et al. 2014).
        input_dropout: the same of the input alone; None: ``dropout``.
        tied: True uses the embedding's table as the head's weight; E must equal H.
        initial: the rule for the state before the first symbol.
        initialisers: the rules for the recurrent weights.
        reduction: the loss is the "mean" of the losses that count, or their "sum".

    Raises:
        InputError: sizes below 1; ``tied`` with E different from H or with one-hot inputs.

    >>> model = LanguageModel(65, hidden_size=32)
    >>> list(model.sample([3, 1, 4], 2, generator=torch.Generator().manual_seed(0))) == list(
    ...     model.sample([3, 1, 4], 2, generator=torch.Generator().manual_seed(0)))
    True
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        cell: AbstractCell = GRU(),  # noqa: B008  a frozen dataclass
        hidden_size: int = 128,
        num_layers: int = 1,
        embedding_size: int | None = None,
        dropout: float = 0.0,
        input_dropout: float | None = None,
        tied: bool = False,
        initial: AbstractInitial = Zeros(),  # noqa: B008  a frozen dataclass
        initialisers: Sequence[AbstractInitialiser] = (TorchUniform(),),
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        _check.positive("hidden_size", hidden_size)
        E = hidden_size if embedding_size is None else embedding_size
        if tied and E == 0:
            raise _check.InputError(
                "tied is set with one-hot inputs (embedding size 0); expected an embedding table to share. Give it H columns."
            )
        input = Embedding(vocabulary_size, E) if E else OneHot(vocabulary_size)
        recurrence = Recurrence(
            cell, input.size, hidden_size, num_layers=num_layers, dropout=dropout, initial=initial, initialisers=initialisers
        )
        head = Head(hidden_size, vocabulary_size)
        if isinstance(input, Embedding) and tied:
            head.tie(input.weight)
        self._set_stations(input, recurrence, head, dropout=dropout, input_dropout=input_dropout, reduction=reduction)

    def sample(
        self,
        prompt: Sequence[int],
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
        never: Sequence[int] = (),
    ) -> Iterator[int]:
        """Draw ``length`` symbols one after another, each from p(· | prompt, those before it).

        Args:
            prompt: at least one index.
            length: how many symbols to draw.
            temperature: logits are divided by it; 0 takes the likeliest symbol.
            top_k: only the k likeliest symbols may be drawn; None: all.
            generator: the random generator; None: torch's global one.
            never: indices that are not drawn, such as that of the unknown symbol.

        Raises:
            InputError: an empty prompt, indices outside the vocabulary, a negative temperature, a top_k below 1.
        """
        if not len(prompt):
            raise _check.InputError("the prompt is empty; expected at least one symbol to start from. Give a prompt.")
        _check.positive("length", length)
        _check.at_least("temperature", temperature, 0.0)
        if top_k is not None:
            _check.positive("top_k", top_k)
        return self._draw(prompt, length, temperature, top_k, generator, never)

    def _draw(
        self,
        prompt: Sequence[int],
        length: int,
        temperature: float,
        top_k: int | None,
        generator: torch.Generator | None,
        never: Sequence[int],
    ) -> Iterator[int]:
        device = self.head.weight.device
        inputs = torch.as_tensor(prompt, device=device).unsqueeze(1)  # (T, 1)
        state = self.drawn_initial_state(1, generator)
        was_training = self.training
        self.eval()
        try:
            for _ in range(length):
                o, state = self._last_logits(inputs, state)
                o[list(never)] = -torch.inf
                symbol = _choose(o, temperature, top_k, generator)
                yield symbol
                inputs = torch.tensor([[symbol]], device=device)
        finally:
            self.train(was_training)

    @torch.no_grad()
    def _last_logits(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        hs, state_next = self.recurrence(self.embed(Batch(inputs)), state)
        return self.head(hs[-1, 0]), state_next


def _choose(o: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> int:
    if temperature == 0:
        return int(o.argmax())
    kept, symbols = ((o.double() - o.max()) / temperature).topk(min(top_k or o.numel(), o.numel()))
    return int(symbols[torch.multinomial(nn.functional.softmax(kept, 0), 1, generator=generator)])
