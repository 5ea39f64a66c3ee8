"""A model is three stations by name, so that a gradient method can stand between them.

T time · B batch · I input · H hidden · L layers · S states.
"""

import abc
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from .._shapes import State
from ..data import Batch
from ..kernels import get_kernels
from ..nn import Recurrence, Rows
from ._head import Head
from ._inputs import AbstractInput, Embedding


class AbstractModel(nn.Module, abc.ABC):
    """embed → recurrence → losses.

    The loss of a batch is L = scale(batch) · Σ_t Σ_b m_tb w_tb ℓ_tb: a sum over time and streams of what the mask m and the
    weights w let stand. ``reduction="mean"`` divides it by how many losses count (m true and w not 0), so that a learning rate
    does not depend on T or B; ``reduction="sum"`` leaves the bare sum of the textbooks.
    """

    input: AbstractInput
    recurrence: Recurrence
    head: Head
    dropout: nn.Dropout
    reduction: Literal["mean", "sum"]

    def _set_stations(
        self, input: AbstractInput, recurrence: Recurrence, head: Head, *, dropout: float, reduction: Literal["mean", "sum"]
    ) -> None:
        self.input, self.recurrence, self.head = input, recurrence, head
        self.dropout, self.reduction = nn.Dropout(dropout), reduction

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
        """S tensors (L, B, H)."""
        return self.recurrence.initial_state(batch_size)

    def embed(self, batch: Batch) -> Float[Tensor, "T B I"]:
        """Station ②: the vectors that the recurrence sees. It reads ``batch.inputs`` alone; the batch may have no targets."""
        return self.dropout(self.input(batch.inputs))

    def enter(self, batch: Batch) -> Float[Tensor, "T B I"] | Rows:
        """Station ② as the recurrence takes it fastest: ``embed(batch)``, or what it would look up in a small table, not looked up yet."""
        if isinstance(self.input, Embedding) and self.enters_rows(batch.inputs):
            return self.input.rows(batch.inputs)
        return self.embed(batch)

    def enters_rows(self, inputs: Tensor) -> bool:
        """Whether ``enter`` leaves these inputs as rows of a table."""
        dropped = self.training and self.dropout.p > 0
        looked_up = isinstance(self.input, Embedding) and self.input.is_small_for(inputs) and not self.has_own("embed")
        return looked_up and not dropped and get_kernels() == "fast"

    def has_own(self, station: Literal["embed", "losses", "initial_state"]) -> bool:
        """Whether a subclass says by itself what a station does, so that nobody may go round it."""
        return getattr(type(self), station) is not getattr(AbstractModel, station)

    def losses(self, hs: Float[Tensor, "T B H"], batch: Batch) -> Float[Tensor, "T B"]:
        """Station ④: every step's loss m_tb w_tb ℓ_tb, zero where the mask is False."""
        return self.weighed(self.head.losses(self.dropout(hs), batch.known_targets()), batch)

    def loss_and_adjoint(self, hs: Float[Tensor, "T B H"], batch: Batch, *, scale: float | None = None) -> tuple[Tensor, Tensor]:
        """Station ④ and its derivative, for a gradient method: L = scale · Σ losses, and ∂L/∂h_t of every step.

        Adds the gradient of the head, and of whatever else ``losses`` depends on beside ``hs``, to every ``p.grad``.

        Args:
            hs: what the recurrence gave, without its graph.
            batch: of the same steps.
            scale: None: ``scale(batch)``.

        Returns:
            L (), detached, and ∂L/∂h (T, B, H).
        """
        with torch.enable_grad():
            leaf = hs.detach().requires_grad_()
            loss = self.losses(leaf, batch).sum() * (self.scale(batch) if scale is None else scale)
            loss.backward()
        return loss.detach(), torch.zeros_like(leaf) if leaf.grad is None else leaf.grad

    def adjoint(self, hs: Float[Tensor, "T B H"], batch: Batch) -> Float[Tensor, "T B H"]:
        """∂(Σ losses)/∂h_t of every step; no gradient is added anywhere."""
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
        """What Σ losses is multiplied by, over one batch or several that are one sequence.

        1/(how many losses count), or 1 for ``reduction="sum"`` and where none counts.
        """
        return 1.0 if self.reduction == "sum" else 1.0 / max(1, sum(batch.counted() for batch in batches))
