"""Learning signals: the feedback ℓ_t that each unit gets from the loss at its own step.

T time · B batch · H hidden · V outputs · L layers.
"""

import abc
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ...data import Batch
from ...models import AbstractModel
from ._run import ForwardRun


class AbstractFeedback(abc.ABC):
    """A rule for the learning signals ℓ_t.

    >>> import throughtime as tt
    >>> class Doubled(AbstractFeedback):
    ...     def signals(self, model, run, batch):
    ...         loss, signals = tt.gradients.Symmetric().signals(model, run, batch)
    ...         return loss, [2 * signal for signal in signals]
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> loss, carry = tt.gradients.EProp(Doubled()).accumulate(model, tt.Batch(text[:-1], text[1:]))
    """

    @abc.abstractmethod
    def signals(self, model: AbstractModel, run: ForwardRun, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The loss, and ℓ_t of each layer, (T, B, H). Adds the head's gradient, which is exact."""


@final
@dataclass(frozen=True)
class Symmetric(AbstractFeedback):
    """ℓ_t^l = ∂L_t/∂h_t^l with every state of step t − 1 held constant: back through the head and the layers above, within the step.

    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> loss, carry = tt.gradients.EProp(Symmetric()).accumulate(model, tt.Batch(text[:-1], text[1:]))
    """

    def signals(self, model: AbstractModel, run: ForwardRun, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        loss, signal = model.loss_and_adjoint(run.trace.hs, batch)
        found = [signal]
        S = len(run.trace.last)
        for layer in reversed(run.layers[1:]):
            at_states = torch.cat((signal.unsqueeze(0), signal.new_zeros(S - 1, *signal.shape))).flatten(1, 2)  # (S, T·B, H)
            signal = layer.everywhere().pull(at_states).below.view_as(signal)
            found.append(signal)
        return loss, found[::-1]


@final
@dataclass(frozen=True)
class RandomFeedback(AbstractFeedback):
    """ℓ_t^l = δ_t B^l, with δ_t = ∂L_t/∂o_t at the head's output and B^l (V, H) fixed, normal with variance 1/H.

    The signal uses no weight of the head or of a layer above: feedback alignment (Lillicrap et al. 2016).

    Args:
        seed: the seed of B.

    Raises:
        NotImplementedError: a model with losses of its own, when it is used.

    >>> import throughtime as tt
    >>> model, text = tt.LanguageModel(9, hidden_size=8), torch.randint(9, (13, 4))
    >>> loss, carry = tt.gradients.EProp(RandomFeedback(seed=0)).accumulate(model, tt.Batch(text[:-1], text[1:]))
    """

    seed: int = 0

    def signals(self, model: AbstractModel, run: ForwardRun, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        loss, errors = _output_errors(model, run.trace.hs, batch)
        (_, L, _, H), V = run.sizes, errors.shape[2]
        generator = torch.Generator().manual_seed(self.seed)
        B = torch.empty(L, V, H).normal_(0.0, H**-0.5, generator=generator).to(errors)
        return loss, list(errors @ B.unsqueeze(1))


def _output_errors(model: AbstractModel, hs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss, and δ_t = ∂L_t/∂o_t (T, B, V); adds the head's own gradient.

    Raises:
        NotImplementedError: a model with losses of its own.
    """
    if model.has_own("losses"):
        raise NotImplementedError(
            f"RandomFeedback sends the error at the head's output back, and {type(model).__name__} has losses of its own, which need not "
            "be the head's. Symmetric() differentiates them as they are."
        )
    with torch.enable_grad():
        o = model.head(model.dropout(hs.detach()))
        leaf = o.detach().requires_grad_()
        loss = model.weighed(model.head.loss.per_step(leaf, batch.known_targets(), model.head.output), batch).sum() * model.scale(batch)
        loss.backward()
        assert leaf.grad is not None, "losses are a function of o"
        if o.requires_grad:
            o.backward(leaf.grad)
    return loss.detach(), leaf.grad
