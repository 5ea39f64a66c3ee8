"""What the estimators have in common: the network, its optimiser and its budget, as scikit-learn's parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .. import _check
from .._check import InputError
from ..cells import AbstractCell
from ..data import AbstractStream
from ..gradients import AbstractGradient
from ..models import AbstractModel
from ..training import AbstractClip, ClipNorm, OptimiserOptions, StackOptions, build_cell, device, method_of, name_cell
from ._learner import Learner


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkEstimator(BaseEstimator):
    """The parameters that every estimator here has, and training.

    Args:
        cell: "rnn", "gru", "lstm", a cell of ``cells.zoo`` by its name, MODULE:CLASS, or a cell.
        hidden_size: H.
        num_layers: L.
        dropout: the probability of dropout, in training, on the input, between layers and before the head.
        gradient: how dL/dθ is found, in the words of the shell's --gradient, such as "truncated:k1=16,k2=32", or a method.
        window: steps that are learned from at a time; the state is carried on. None: whole sequences.
        optimizer: "sgd", "adam", "adamw", "nadam", "rmsprop" or "adagrad".
        lr: the learning rate.
        weight_decay: of the optimiser.
        clip: the gradient's global norm is scaled down to this; 0: never.
        epochs: passes over the data.
        batch_size: sequences side by side.
        standardize: bring inputs and real targets to a mean of 0 and a standard deviation of 1, as measured where the network learns.
        early_stopping: hold a part of the data out, keep the weights that do best there, and end when they get no better.
        validation_fraction: how much to hold out.
        n_iter_no_change: epochs without a better one that end it.
        warm_start: ``fit`` goes on with the weights that are there.
        random_state: of the weights, the order of the data, dropout, and what is held out. An integer makes a fit repeatable, to the bits.
        device: where to compute: cpu, cuda, cuda:1, mps.
    """

    cell: str | AbstractCell = "gru"
    hidden_size: int = 32
    num_layers: int = 1
    dropout: float = 0.0
    gradient: str | AbstractGradient = "full"
    window: int | None = None
    optimizer: Any = "adam"
    lr: float = 0.01
    weight_decay: float = 0.0
    clip: float = 1.0
    epochs: int = 100
    batch_size: int = 32
    standardize: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    warm_start: bool = False
    random_state: Any = None
    device: str = "cpu"

    @property
    def model_(self) -> AbstractModel:
        """The network, in evaluation mode."""
        check_is_fitted(self, "_learner")
        return self._learner.model

    @property
    def loss_curve_(self) -> list[float]:
        """The mean training loss of each epoch."""
        check_is_fitted(self, "_learner")
        return self._learner.losses

    @property
    def validation_losses_(self) -> list[float]:
        """The loss on what was held out, after each epoch."""
        check_is_fitted(self, "_learner")
        return self._learner.measured

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_learner")

    def _check_parameters(self) -> None:
        """Refuse what means nothing, before anything is read or drawn."""
        for name in ("hidden_size", "num_layers", "epochs", "batch_size", "n_iter_no_change"):
            self._whole(name)
        if self.window is not None:
            self._whole("window")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation_fraction is {self.validation_fraction!r}; expected a number above 0 and below 1, such as 0.1.")
        _check.at_least("clip", self.clip, 0)
        self._optimiser_options().check()
        self._cell()
        self._method()
        device(self.device)

    def _whole(self, name: str) -> int:
        """A size among the parameters; a search may have set it to an integer of numpy."""
        value = getattr(self, name)
        return _check.positive(name, int(value) if isinstance(value, np.integer) else value)

    def _optimiser_options(self) -> OptimiserOptions:
        _check.one_of("optimizer", self.optimizer, ("sgd", "adam", "adamw", "nadam", "rmsprop", "adagrad"))
        return OptimiserOptions(self.optimizer, self.lr, weight_decay=self.weight_decay)

    def _cell(self) -> AbstractCell:
        if isinstance(self.cell, AbstractCell):
            return self.cell
        network = StackOptions(cell=self.cell, hidden=self._whole("hidden_size"))
        network.check_cell()
        if ":" in self.cell:
            name_cell(self.cell)
        return build_cell(network)

    def _method(self) -> AbstractGradient:
        return method_of(self.gradient) if isinstance(self.gradient, str) else self.gradient

    def _clips(self) -> list[AbstractClip]:
        return [ClipNorm(self.clip)] if self.clip else []

    def _drawn_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _begin(self, build: Callable[[], AbstractModel], seed: int) -> None:
        self._learner = Learner(build, self._optimiser_options(), seed, device(self.device))

    def _learn(self, stream: AbstractStream, epochs: int, valid: AbstractStream | None) -> None:
        self._learner.learn(
            stream, epochs, gradient=self._method(), clips=self._clips(), valid=valid, patience=self._whole("n_iter_no_change")
        )
        self.n_iter_ = len(self._learner.losses)
