"""Models with stations of their own: what a user may write, and no gradient method may walk round.

T time · B batch · I input · H hidden · V outputs.
"""

from dataclasses import replace
from typing import Literal, final

import torch
from _past import I, V, language_model, randomised, text, vector_model, vectors
from torch import Tensor, nn

from throughtime.cells import GRU, AbstractCell
from throughtime.data import Batch, labelled
from throughtime.models import (
    AbstractLoss,
    AbstractModel,
    AbstractRegression,
    BinaryCrossEntropy,
    Embedding,
    Forecaster,
    FrameModel,
    Head,
    Linear,
    MeanSquaredError,
    SequenceClassifier,
    SquaredError,
    Vectors,
)
from throughtime.nn import Learnable, Recurrence

H = 5


def inputs_of(given: Batch | Tensor) -> Tensor:
    """What an ``embed`` reads: its inputs alone."""
    return given.inputs if isinstance(given, Batch) else given


@final
class Features(AbstractModel):
    """Its ``embed`` puts vectors beside their squares and leads both through a hidden layer."""

    def __init__(self, cell: AbstractCell, layers: int) -> None:
        super().__init__()
        recurrence = Recurrence(cell, 4, H, num_layers=layers, initial=Learnable())
        self._set_stations(Vectors(4), recurrence, Head(H, 2, output=Linear(), loss=SquaredError()), dropout=0.0, reduction="sum")
        self.mixed = nn.Sequential(nn.Linear(2 * I, 6), nn.Tanh(), nn.Linear(6, 4))

    def embed(self, batch) -> Tensor:
        x = inputs_of(batch)
        return self.mixed(torch.cat((x, x.square()), -1))


@final
class Squashed(AbstractModel):
    """Its ``embed`` squashes what its table of symbols gives."""

    def __init__(self, cell: AbstractCell, layers: int) -> None:
        super().__init__()
        recurrence = Recurrence(cell, I, H, num_layers=layers, initial=Learnable())
        self._set_stations(Embedding(V, I), recurrence, Head(H, V), dropout=0.0, reduction="sum")

    def embed(self, batch) -> Tensor:
        return torch.tanh(2.0 * self.input(inputs_of(batch)))


@final
class Penalised(AbstractModel):
    """Its ``losses`` add what the activity of the top layer costs."""

    def __init__(self, cell: AbstractCell, layers: int) -> None:
        super().__init__()
        recurrence = Recurrence(cell, I, H, num_layers=layers, initial=Learnable())
        self._set_stations(Embedding(V, I), recurrence, Head(H, V), dropout=0.0, reduction="sum")

    def losses(self, hs: Tensor, batch: Batch) -> Tensor:
        return super().losses(hs, batch) + self.weighed(0.3 * hs.square().sum(-1), batch)


OWN = {Features: vectors, Squashed: text, Penalised: text}  # model → its batches


def own(kind: type[AbstractModel], cell: AbstractCell, layers: int) -> tuple[AbstractModel, Batch]:
    return randomised(kind(cell, layers)), OWN[kind]()


def forecaster(cell: AbstractCell, layers: int = 1, loss: AbstractRegression = MeanSquaredError(), horizon: int = 2) -> Forecaster:  # noqa: B008
    """Two targets, ``horizon`` steps ahead."""
    model = Forecaster(I, 2, horizon=horizon, cell=cell, hidden_size=H, num_layers=layers, loss=loss, initial=Learnable(), reduction="sum")
    return randomised(model)


def table_batch(horizon: int = 2) -> Batch:
    """Vectors, and the targets of the next steps; some are missing."""
    batch = vectors()
    targets = torch.randn(batch.T, batch.B, 2 * horizon)
    targets[torch.rand_like(targets) < 0.2] = torch.nan
    return replace(batch, targets=targets)


def classifier(cell: AbstractCell, layers: int = 1, each: Literal["sequence", "step"] = "sequence") -> SequenceClassifier:
    """Three classes, in one direction."""
    options = {"hidden_size": H, "num_layers": layers, "initial": Learnable(), "reduction": "sum"}
    return randomised(SequenceClassifier(I, 3, each=each, cell=cell, **options))


def labelled_batch(each: Literal["sequence", "step"] = "sequence") -> Batch:
    """Padded sequences and their labels; of those of the steps some are missing."""
    batch = vectors()
    labels = torch.randint(3, (batch.B,)) if each == "sequence" else torch.randint(-1, 3, (batch.T, batch.B))
    lengths = torch.tensor([batch.T, *torch.randint(1, batch.T, (batch.B - 1,)).tolist()])
    return labelled(batch.inputs, labels, lengths, class_weights=torch.tensor([0.5, 2.0, 1.0]))


def frame_model(cell: AbstractCell, layers: int = 1, loss: AbstractLoss = BinaryCrossEntropy()) -> FrameModel:  # noqa: B008
    """Frames of as many numbers as the vectors have."""
    options = {"hidden_size": H, "num_layers": layers, "initial": Learnable(), "reduction": "sum"}
    return randomised(FrameModel(I, loss=loss, cell=cell, **options))


def frame_batch(loss: AbstractLoss) -> Batch:
    """Frames and those after them; of zeros and ones where the loss wants it."""
    frames = torch.randn(13, 4, I)
    frames = (frames > 0).to(frames) if isinstance(loss, BinaryCrossEntropy) else frames
    return Batch(frames[:-1], frames[1:])


# every model of the library
LIBRARY = [language_model(GRU()), vector_model(GRU()), forecaster(GRU()), classifier(GRU()), frame_model(GRU())]
