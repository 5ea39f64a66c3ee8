"""A model is three named stations, so that a gradient method can work between them.

T time · B batch · I input · H hidden · L layers · S states.
"""

import abc
import hashlib
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .. import _check
from .._shapes import State
from ..data import Batch
from ..kernels import get_kernels
from ..nn import Bidirectional, Dropout, Padded, Recurrence, Rows
from ._head import Head
from ._inputs import AbstractInput, Embedding


class AbstractModel(nn.Module, abc.ABC):
    """embed → recurrence → losses.

    The loss of a batch is L = scale(batch) · Σ_t Σ_b m_tb w_tb ℓ_tb, a sum over time and streams with the mask m and the weights w.
    ``reduction="mean"`` divides it by the number of losses that count (m true and w not 0), so that a learning rate does not depend on
    T or B. ``reduction="sum"`` is the plain sum of the textbooks.

    ``SequenceModel`` and ``LanguageModel`` are ready to use. A subclass of your own may replace a station:

    >>> from throughtime import cells, nn
    >>> from throughtime.models import Linear, SquaredError, Vectors
    >>> class Scaled(AbstractModel):  # inputs are multiplied by a learned factor
    ...     def __init__(self):
    ...         super().__init__()
    ...         head = Head(8, 1, output=Linear(), loss=SquaredError())
    ...         self._set_stations(Vectors(1), nn.Recurrence(cells.GRU(), 1, 8), head, dropout=0.0, reduction="mean")
    ...         self.factor = torch.nn.Parameter(torch.ones(()))
    ...     def embed(self, batch):
    ...         return self.factor * super().embed(batch)
    >>> from throughtime.gradients import TruncatedBPTT
    >>> model, batch = Scaled(), Batch(torch.randn(12, 4, 1), torch.randn(12, 4, 1))
    >>> loss, carry = TruncatedBPTT(4).accumulate(model, batch)
    >>> model.factor.grad.shape
    torch.Size([])
    """

    input: AbstractInput
    recurrence: Recurrence
    head: Head
    input_dropout: Dropout  # on the recurrence's input
    dropout: Dropout  # on its output
    reduction: Literal["mean", "sum"]

    def _set_stations(
        self,
        input: AbstractInput,
        recurrence: Recurrence | Bidirectional,
        head: Head,
        *,
        dropout: float,
        input_dropout: float | None = None,
        reduction: Literal["mean", "sum"],
    ) -> None:
        """``input_dropout``: None is ``dropout``."""
        self.input, self.recurrence, self.head = input, cast(Any, recurrence), head  # almost every model has one direction
        self.dropout, self.reduction = Dropout(_check.fraction("dropout", dropout)), reduction
        self.input_dropout = Dropout(dropout if input_dropout is None else _check.fraction("input_dropout", input_dropout))

    def forward(self, inputs: Shaped[Tensor, "T B *I"], state: State | None = None) -> tuple[Float[Tensor, "T B V"], State]:
        """What the head makes of every step, o = V h + c, and the state to go on from.

        The output function (softmax, a sigmoid) is left to the caller, as in ONNX files: cross-entropy takes o as it is.

        Args:
            inputs: (T, B) indices or (T, B, I) vectors, time first.
            state: from the call before; None: the model's initial state.

        Raises:
            InputError: inputs or a state of another shape than the model's.
        """
        batch = Batch(inputs)
        hs, state_next = self.recurrence(self.enter(batch), self.initial_state(batch.B) if state is None else state)
        return self.head(self.dropout(hs)), state_next

    def initial_state(self, batch_size: int) -> State:
        """The state before the first step, S tensors (L, B, H)."""
        return self.recurrence.initial_state(batch_size)

    def drawn_initial_state(self, batch_size: int, generator: torch.Generator | None) -> State:
        """``initial_state``, whose chance, if there is any, is that of a generator, which stays where it is; None: torch's global one."""
        if generator is None:
            return self.initial_state(batch_size)
        digest = hashlib.blake2b(generator.get_state().numpy().tobytes(), digest_size=7).digest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(digest, "little"))
            return self.initial_state(batch_size)

    def embed(self, batch: Batch) -> Float[Tensor, "T B I"]:
        """Station ②: the vectors that the recurrence takes. It reads ``batch.inputs`` only; the batch may have no targets."""
        return self.input_dropout(self.input(batch.inputs))

    def enter(self, batch: Batch) -> Float[Tensor, "T B I"] | Rows | Padded:
        """Station ② in the form that is fastest for the recurrence: ``embed(batch)``, or for a small table its rows without the lookup."""
        if isinstance(self.input, Embedding) and self.enters_rows(batch.inputs):
            return self.input.rows(batch.inputs)
        return self.embed(batch)

    def enters_rows(self, inputs: Tensor) -> bool:
        """Whether ``enter`` returns ``Rows`` for these inputs."""
        dropped = self.training and self.input_dropout.p > 0
        looked_up = isinstance(self.input, Embedding) and self.input.is_small_for(inputs) and not self.has_own("embed")
        return looked_up and not dropped and get_kernels() == "fast"

    def has_own(self, station: Literal["embed", "losses", "initial_state"]) -> bool:
        """Whether a subclass overrides a station, so that its own method must be called."""
        return getattr(type(self), station) is not getattr(AbstractModel, station)

    def losses(self, hs: Float[Tensor, "T B H"], batch: Batch) -> Float[Tensor, "T B"]:
        """Station ④: the loss m_tb w_tb ℓ_tb of every step, zero where the mask is False."""
        return self.weighed(self.head.losses(self.dropout(hs), batch.known_targets()), batch)

    def loss_and_adjoint(self, hs: Float[Tensor, "T B H"], batch: Batch, *, scale: float | None = None) -> tuple[Tensor, Tensor]:
        """Station ④ and its derivative, for a gradient method: L = scale · Σ losses, and ∂L/∂h_t of every step.

        Adds the gradient of the head, and of any other parameter that ``losses`` uses, to ``p.grad``.

        Args:
            hs: the recurrence's output; its graph is not used.
            batch: the same steps.
            scale: the factor of the sum; None: ``scale(batch)``.

        Returns:
            L (), detached, and ∂L/∂h (T, B, H).
        """
        with torch.enable_grad():
            leaf = hs.detach().requires_grad_()
            loss = self.losses(leaf, batch).sum() * (self.scale(batch) if scale is None else scale)
            loss.backward()
        return loss.detach(), torch.zeros_like(leaf) if leaf.grad is None else leaf.grad

    def adjoint(self, hs: Float[Tensor, "T B H"], batch: Batch) -> Float[Tensor, "T B H"]:
        """∂(Σ losses)/∂h_t of every step. No ``p.grad`` is changed."""
        with torch.enable_grad():
            leaf = hs.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.losses(leaf, batch).sum(), [leaf], materialize_grads=True)
        return found

    def weighed(self, losses: Float[Tensor, "T B"], batch: Batch) -> Float[Tensor, "T B"]:
        """m_tb w_tb ℓ_tb from ℓ_tb."""
        if batch.weights is not None:
            losses = losses * batch.weights
        return losses if batch.mask is None else losses.where(batch.mask, 0)

    def scale(self, *batches: Batch) -> float:
        """The factor of Σ losses, for one batch or for several that form one sequence.

        It is one over the number of losses that count, in the whole where a batch says that it is a part; 1 for ``reduction="sum"`` and
        if no loss counts.
        """
        if self.reduction == "sum":
            return 1.0
        return 1.0 / max(1, sum(batch.counted() if batch.whole is None else batch.whole for batch in batches))
