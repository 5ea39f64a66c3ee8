"""Learning from a stream one step at a time, for ever.

B streams side by side · I input · V outputs.
"""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ..data import Batch
from ..gradients import AbstractGradient, Carry
from ..models import AbstractModel
from ._clip import AbstractClip
from ._step import step


@final
class OnlineLearner:
    """A model that lives in a stream: ``predict`` before the answer is known, ``learn`` once it is.

    ``learn(x_t, y_t)`` is one call of ``method.accumulate`` on a batch of T = 1 with the carry of the last, and one step of the
    optimiser; it alone moves the recurrent state. ``predict(x_t)`` says what the model would answer if x_t came now and changes nothing:
    ask it as often as you like, or never.

    Any method will do. What it keeps in its carry is all that is known of the past: the forward methods (``RTRL UORO SnAp EProp`` …)
    keep the influence of the whole of it; ``TruncatedBPTT(1, k2)`` keeps k2 − 1 steps and runs them again at every step; ``FullBPTT()``
    keeps the state alone and sees one step. Memory does not grow with time.

    Args:
        model: changed in place.
        method: how dL/dθ is found.
        optimiser: over the model's parameters.
        clips: of the gradient, in turn, before each step.

    Attributes:
        carry: after the last ``learn``; None before the first. Save it with the model and the optimiser and set it again to go on.

    >>> from throughtime import gradients, models, nn, cells
    >>> model = models.SequenceModel(models.Vectors(1), nn.Recurrence(cells.GRU(), 1, 8), models.Head(8, 1, output=models.Linear(),
    ...     loss=models.SquaredError()))
    >>> learner = OnlineLearner(model, gradients.RTRL(), torch.optim.SGD(model.parameters(), 0.1))
    >>> x, y = torch.ones(1, 1), torch.ones(1, 1)
    >>> before = learner.predict(x)
    >>> for _ in range(20):
    ...     loss = learner.learn(x, y)
    >>> bool((learner.predict(x) - y).abs() < (before - y).abs())
    True
    """

    def __init__(
        self, model: AbstractModel, method: AbstractGradient, optimiser: torch.optim.Optimizer, *, clips: Sequence[AbstractClip] = ()
    ) -> None:
        self.model, self.method, self.optimiser, self.clips = model, method, optimiser, tuple(clips)
        self.carry: Carry | None = None

    @torch.no_grad()
    def predict(self, x: Shaped[Tensor, "B *I"]) -> Float[Tensor, "B V"]:
        """ŷ_t for x_t, without dropout: f(V h_t + c) with h_t one step on from the state that ``learn`` has left.

        Args:
            x: (B,) indices or (B, I) vectors, of the streams that ``learn`` is given.

        Raises:
            InputError: another B than the streams'.
        """
        was_training = self.model.training
        self.model.eval()
        try:
            xs = self.model.embed(Batch(x.unsqueeze(0)))
            hs, _ = self.model.recurrence(xs, None if self.carry is None else self.carry.state)
            return self.model.head.predict(hs[0])
        finally:
            self.model.train(was_training)

    def learn(self, x: Shaped[Tensor, "B *I"], y: Shaped[Tensor, "B *V"], *, fresh: Bool[Tensor, " B"] | None = None) -> float:
        """One step of time, and one of the optimiser.

        Args:
            x: (B,) indices or (B, I) vectors.
            y: (B,) indices or (B, V) vectors.
            fresh: (B,) which streams start anew with x; None: none of them.

        Returns:
            The loss at this step, before the parameters changed.

        Raises:
            InputError: shapes that do not fit, another B than the streams'.
            NonFinite: the loss or the gradient is; parameters and carry are then those of the step before.
        """
        batch = Batch(x.unsqueeze(0), y.unsqueeze(0), fresh=fresh)
        loss, _, _, self.carry = step(self.model, batch, self.carry, gradient=self.method, clips=self.clips, optimizer=self.optimiser)
        return loss
