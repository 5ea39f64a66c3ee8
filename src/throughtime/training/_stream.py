"""A trained network that answers one step at a time.

B streams side by side · I input · H hidden · V outputs · S states · L layers.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from .. import _check
from .._check import InputError
from .._shapes import State
from ..data import Batch
from ..models import AbstractModel, Embedding, Vectors
from ..nn import Recurrence, first_state, steps_of


@final
class Stream:
    """``push(x_t)`` gives y_t. The state is kept from step to step, and the weights are packed once.

    Use it where inputs arrive one at a time: audio, sensors, key strokes, a policy in its environment. It computes in evaluation mode and
    without gradients. To learn from a stream use ``OnlineLearner``; for sequences that are there as a whole, call the layer.

    Args:
        model: a recurrent layer (this package's or torch's, ``nn.Recurrence``), for which y_t is the last layer's h; a model, for which it
            is what ``model(...)`` returns, o = V h + c; what ``load`` returns, or the path of a run folder.
        streams: B, how many independent streams take each step together.

    The stream has a copy of the weights. If the model learns on, the copy stays as it is until ``refresh()``. One stream may be used by one
    thread at a time. It can be pickled and copied with ``copy.deepcopy``.

    Raises:
        InputError: something else than these; streams below 1.
        NotImplementedError: a bidirectional layer, which would have to know the end of the stream.

    >>> layer = torch.nn.GRU(3, 5)
    >>> stream, xs = Stream(layer), torch.randn(7, 3)
    >>> ys = torch.stack([stream.push(x) for x in xs])
    >>> torch.allclose(ys, layer(xs)[0], atol=1e-6)
    True
    >>> stream.reset()
    >>> torch.allclose(stream.push(xs[0]), ys[0])
    True
    """

    opened: ClassVar[Callable[[Path | str], Any]]  # opens a run folder; set by _load.py, whose runs have streams themselves

    def __init__(self, model: Any, streams: int = 1) -> None:
        self.streams = _check.positive("streams", streams)
        self._source = _source(Stream.opened(model) if isinstance(model, (str, Path)) else model)
        self._take_weights()

    def _take_weights(self) -> None:
        self._model = None
        if isinstance(self._source, AbstractModel):
            self._model = copy.deepcopy(self._source).eval().requires_grad_(False)
        self._layer: Any = self._source if self._model is None else self._model.recurrence
        self._steps, self._type = steps_of(self._layer, self.streams), self._layer.weight_hh_l0.dtype
        if self._model is not None:
            self._steps.set_state(self._first_state())

    def push(self, x: Any) -> Any:
        """One step of every stream.

        Args:
            x: (B, I) vectors, or (B,) indices where the model reads indices; without the axis B if there is one stream. A numpy array
                or a tensor, vectors of the weights' type.

        Returns:
            y_t (B, H) or (B, V), without the axis B if x has none; a numpy array if x is one.

        Raises:
            InputError: x of another type or shape.
        """
        if isinstance(x, Tensor):
            return self._push(x)
        return self._push(torch.from_numpy(np.asarray(x))).numpy()

    def _push(self, x: Tensor) -> Tensor:
        axes = 2 if self._model is None or x.is_floating_point() else 1
        if x.dim() == axes - 1 and self.streams == 1:
            return self._answer(x.unsqueeze(0))[0]
        return self._answer(x)

    def _answer(self, x: Tensor) -> Tensor:
        if x.dim() == 0 or x.shape[0] != self.streams:
            raise InputError(f"x has shape {tuple(x.shape)}; expected {self.streams} stream(s) along the first axis.")
        if self._model is None:
            return self._stepped(x)
        return self._model.head(self._stepped(self._embedded(self._model, x)))

    @staticmethod
    def _embedded(model: AbstractModel, x: Tensor) -> Tensor:
        if model.has_own("embed"):
            return model.embed(Batch(x.unsqueeze(0)))[0]
        if isinstance(model.input, Embedding) and x.dtype is torch.int64:
            with suppress(IndexError):  # an index outside the table, of which the input station has more to say
                return torch.embedding(model.input.weight, x)
        return x if isinstance(model.input, Vectors) else model.input(x.unsqueeze(0))[0]

    def _stepped(self, x: Tensor) -> Tensor:
        if x.dtype is not self._type or x.dim() != 2 or x.shape[1] != self._layer.input_size:
            raise InputError(
                f"x is {x.dtype} {tuple(x.shape)}; expected {self._type} {(self.streams, self._layer.input_size)}. "
                "Convert it with .to(...), or .astype(...) in numpy."
            )
        return self._steps.step(x)

    def reset(self, streams: Tensor | Sequence[bool] | None = None) -> None:
        """Set streams back to the initial state.

        Args:
            streams: (B,) True for those; None: all.

        Raises:
            InputError: a mask of another shape.
        """
        mask = torch.ones(self.streams, dtype=torch.bool) if streams is None else torch.as_tensor(streams, dtype=torch.bool)
        if mask.shape != (self.streams,):
            raise InputError(f"streams has shape {tuple(mask.shape)}; expected ({self.streams},), True for a stream that begins anew.")
        pairs = zip(self._first_state(), self._steps.state(), strict=True)
        self._steps.set_state(tuple(torch.where(mask.to(old.device).view(1, -1, 1), new, old) for new, old in pairs))

    def _first_state(self) -> State:
        if self._model is None:
            return first_state(self._layer, self.streams)
        return tuple(s.detach() for s in self._model.initial_state(self.streams))

    def refresh(self) -> None:
        """Take the weights that the model has now. The state is kept."""
        state = self._steps.state()
        self._take_weights()
        self._steps.set_state(state)

    @property
    def state(self) -> State:
        """A copy of the state, S tensors (L, B, H). Set it to go on from another one.

        Raises:
            InputError: tensors of other shapes.
        """
        return self._steps.state()

    @state.setter
    def state(self, state: State) -> None:
        _check.state(state, [tuple(s.shape) for s in self._steps.state()])
        self._steps.set_state(tuple(s.to(self._type) for s in state))


def _source(model: Any) -> AbstractModel | Recurrence | nn.RNNBase:
    """The module that computes."""
    module = model if isinstance(model, nn.Module) else getattr(model, "model", model)
    if isinstance(module, (AbstractModel, Recurrence, nn.RNNBase)):
        return _ordinary(module)
    raise InputError(
        f"the model is a {type(model).__name__}; expected an RNN, GRU or LSTM, a Recurrence, a model of throughtime.models, "
        "or a run folder. Give one of them."
    )


def _ordinary(module: AbstractModel | Recurrence | nn.RNNBase) -> AbstractModel | Recurrence | nn.RNNBase:
    if isinstance(module, AbstractModel) and type(module).forward is not AbstractModel.forward:
        raise NotImplementedError(
            f"{type(module).__name__} has a forward of its own, which a stream cannot take apart. Give its recurrence to Stream, and "
            "compute yourself what comes before and after it."
        )
    return module
