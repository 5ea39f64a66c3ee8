"""Lightning: a module that trains by any gradient method, truncated BPTT with k1 and k2 included, and a callback for its carry.

One training step is one chunk of every stream, in this order:

    zero_grad → method.accumulate (state carried in, detached out; reset where ``batch.fresh``) → clip → optimiser                (1)

A whole sequence is never in memory: the data loader yields chunks, for example a ``TokenStream``, or ``Batch`` objects of your own.
"""

# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false
from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from ..data import Batch
from ..gradients import AbstractGradient, Carry
from ..models import AbstractModel


class BPTTModule(L.LightningModule):
    """A model, a gradient method and an optimiser, for ``lightning.Trainer``.

    Add ``CarryOver()`` to the trainer's callbacks. The trainer's own ``gradient_clip_val`` is refused by Lightning where a module
    optimises by itself; ``max_norm`` is the clip in the right place. Methods write ``p.grad`` directly, so that one process in full
    precision is supported, and no DDP or AMP.

    Args:
        model: ``LanguageModel``, ``SequenceModel`` or one of your own.
        gradient: for example ``TruncatedBPTT(k1, k2)``.
        optimizer: from the parameters to an optimiser.
        max_norm: the gradient's norm is clipped to it. None: no clipping.

    >>> import throughtime as tt
    >>> text = torch.randint(9, (1 + 4 * 25,))
    >>> model = tt.LanguageModel(9, hidden_size=8)
    >>> adam = lambda parameters: torch.optim.Adam(parameters, 1e-2)
    >>> module = BPTTModule(model, tt.gradients.TruncatedBPTT(5, 10), adam, max_norm=1.0)
    >>> quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    >>> trainer = L.Trainer(max_epochs=2, callbacks=[CarryOver()], **quiet)
    >>> trainer.fit(module, tt.TokenStream(text, batch_size=4, window=5))
    >>> module.carry.state[0].shape
    torch.Size([1, 4, 8])
    """

    def __init__(
        self,
        model: AbstractModel,
        gradient: AbstractGradient,
        optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer],
        *,
        max_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.gradient, self.make_optimizer, self.max_norm = model, gradient, optimizer, max_norm
        self.carry: Carry | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.model.parameters())

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Equation (1)."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        loss, self.carry = self.gradient.accumulate(self.model, batch, self.carry)
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        optimizer.step()
        self.log("loss", loss, prog_bar=True, batch_size=batch.B)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """The loss of each batch by itself, from the model's initial state."""
        hs, _ = self.model.recurrence(self.model.enter(batch), self.model.initial_state(batch.B))
        self.log("val_loss", self.model.losses(hs, batch).sum() * self.model.scale(batch), prog_bar=True, batch_size=batch.B)


class CarryOver(L.Callback):
    """Begins every epoch from the initial state, or carries on; keeps the carry in checkpoints.

    An epoch that was interrupted is begun anew, as Lightning reads a data loader from its beginning.

    Args:
        between_epochs: the streams go on from one epoch to the next.
    """

    def __init__(self, *, between_epochs: bool = False) -> None:
        self.between_epochs = between_epochs

    def on_train_epoch_start(self, trainer: L.Trainer, module: Any) -> None:
        if not self.between_epochs:
            module.carry = None

    def on_save_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        carry: Carry | None = module.carry
        if carry is not None:
            checkpoint["throughtime_carry"] = {"state": list(carry.state), "kept": dict(carry.kept), "made_by": carry.made_by}

    def on_load_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        held = checkpoint.get("throughtime_carry")
        module.carry = None if held is None else Carry(tuple(held["state"]), held["kept"], held["made_by"])
