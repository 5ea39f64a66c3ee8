"""What is to be measured, and of what: the caller's choices, checked against the batch."""

import copy
import dataclasses
from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from ... import _check
from ..._check import InputError
from ..._shapes import State
from ...data import Batch
from ...gradients import Carry, carried_state, stack_of
from ...models import AbstractModel
from ._asked import Asked
from ._traced import counts


@final
@dataclass(frozen=True, eq=False)
class Problem:
    """A model, a batch with the losses that are to be led back, and the state that was carried in.

    Attributes:
        first, last: the first and the last step with a loss.
        K: how many lags to take apart.
    """

    model: AbstractModel
    batch: Batch
    state: State | None
    asked: Asked
    first: int
    last: int
    K: int

    @classmethod
    def of(cls, model: nn.Module, batch: Batch, carry: Carry | State | None, asked: Asked) -> "Problem":
        """See ``gradient_flow`` for what is raised."""
        model = _with_stations(model)
        stack = stack_of(model, "gradient_flow")
        state = carried_state(carry, "gradient_flow")
        if state is not None:
            _check.state(state, [(stack.num_layers, batch.B, stack.hidden_size)] * stack.cell.states)
        batch = batch if asked.step is None else _only(batch, asked.step)
        first, last, K = _reach(batch, asked.max_lag, asked.step)
        maps = 8 * batch.T * K * (2 + stack.num_layers + 2 * asked.inputs)
        _check.memory(maps, f"the map of {batch.T} steps by {K} lags", "Give a max_lag: memory grows with steps times lags.")
        if not 0 <= asked.stream < batch.B:
            raise InputError(f"stream is {asked.stream}; expected one of the batch's, 0 to {batch.B - 1}.")
        return cls(model, batch, state, asked, first, last, K)

    def in_double(self) -> "Problem":
        """The same in float64; the model is copied."""
        model = copy.deepcopy(self.model).double()
        given = {k: v.double() for k, v in vars(self.batch).items() if v is not None and v.is_floating_point()}
        state = None if self.state is None else tuple(s.double() for s in self.state)
        return dataclasses.replace(self, model=model, batch=dataclasses.replace(self.batch, **given), state=state)

    def without_parameters(self) -> "Problem":
        """The adjoint map alone, which cannot overflow."""
        return dataclasses.replace(self, asked=dataclasses.replace(self.asked, parameters=False, tensors=()))


def _with_stations(model: nn.Module) -> AbstractModel:
    if isinstance(model, AbstractModel):
        return model
    raise NotImplementedError(
        f"gradient_flow takes a model apart at its three stations, input, recurrence and head, and {type(model).__name__} does not "
        "name them. Put its parts into models.SequenceModel(input, recurrence, head), or models.LanguageModel for text; weights of "
        "torch.nn.RNN, GRU and LSTM load into nn.Recurrence by load_state_dict."
    )


def _only(batch: Batch, step: int) -> Batch:
    """The batch with the loss of one step alone."""
    if not 0 <= step < batch.T:
        raise InputError(f"step is {step}; expected one of the batch's, 0 to {batch.T - 1}.")
    weights = batch.weights if batch.weights is not None else torch.ones(batch.T, batch.B, device=batch.inputs.device)
    only = torch.zeros_like(weights)
    only[step] = weights[step]
    return dataclasses.replace(batch, weights=only)


def _reach(batch: Batch, max_lag: int | None, step: int | None) -> tuple[int, int, int]:
    """The first and the last step with a loss, and how many lags to take apart."""
    steps = counts(batch).any(1).nonzero().flatten().tolist()
    if not steps:
        where = "the batch" if step is None else f"step {step}"
        raise InputError(
            f"no loss counts in {where}: its mask is False or its weights are 0 everywhere; expected at least one, to have a gradient. "
            + ("Choose another batch." if step is None else "Choose a step that the mask and the weights let stand.")
        )
    first, last = steps[0], steps[-1]
    if max_lag is None:
        return first, last, last + 1
    if isinstance(max_lag, bool) or not 0 <= max_lag <= last:
        raise InputError(
            f"max_lag is {max_lag}, but the batch's last loss stands at step {last} of 0 to {batch.T - 1}: it reaches back {last} steps at "
            f"most. Give a max_lag from 0 to {last}, None for all, or a longer batch."
        )
    return first, last, max_lag + 1
