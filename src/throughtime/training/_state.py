"""The whole state of a training run as tensors and JSON, so that a run goes on to the same bits."""

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, final

import msgspec
import torch
from torch import Tensor

from .._check import InputError, NonFinite
from ..gradients import Carry
from ..models import AbstractModel
from ._files import load_parameters, read_tensors, write_tensors
from ._generators import set_generator_states
from ._step import Step

_OWN = "rank."  # begins the names of what single ranks have


@final
@dataclass
class Since:
    """Sums over the steps since the last report."""

    loss: float = 0.0
    norm: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    steps: int = 0

    def add(self, done: Step, tokens: int, seconds: float) -> None:
        """One step more; a window that no loss stands in counts for its time alone."""
        self.loss, self.norm, self.steps = self.loss + done.loss, self.norm + done.norm, self.steps + (tokens > 0)
        self.tokens, self.seconds = self.tokens + tokens, self.seconds + seconds


@final
@dataclass
class Progress:
    """Where training stands; plain numbers."""

    step: int = 0
    clipped: int = 0  # steps whose gradient a clip changed
    seconds: float = 0.0  # spent in training, over all resumptions
    since: Since = field(default_factory=Since)
    best: float | None = None  # the loss on validation
    best_step: int = 0
    validated: int = 0  # the step of the last validation
    waited: int = 0  # validations since the best
    skipped: int = 0  # steps that were not taken, as they were not finite
    skipped_in_a_row: int = 0
    rollbacks: int = 0  # times that the run went back to a saved state
    recent: tuple[float, ...] = ()  # losses of the last reports
    diverging: bool = False  # and has been reported
    carried: tuple[int, ...] = ()  # how many state tensors, if a carry stands
    kept: tuple[str, ...] = ()  # the names of what the carry keeps beside
    made_by: str = ""
    ranks: int = 1  # processes that shared the training

    def add(self, done: Step, tokens: int, seconds: float) -> None:
        """One step more."""
        self.step, self.clipped, self.seconds = self.step + 1, self.clipped + done.clipped, self.seconds + seconds
        self.since.add(done, tokens, seconds)
        self.skipped_in_a_row = 0

    def skip(self, seconds: float) -> None:
        """A step that was not taken."""
        self.step, self.seconds = self.step + 1, self.seconds + seconds
        self.skipped, self.skipped_in_a_row = self.skipped + 1, self.skipped_in_a_row + 1


def refuse_non_finite(model: AbstractModel) -> None:
    """Raises NonFinite where a weight is not a finite number: such a model is never saved."""
    for name, p in model.named_parameters():
        if not torch.isfinite(p).all():
            raise NonFinite(f"the weight {name}, after the step")


def save_state(
    path: Path,
    model: AbstractModel,
    optimizer: torch.optim.Optimizer,
    carry: Carry | None,
    generators: Mapping[str, Tensor],
    progress: Progress,
    previous: Path | None = None,
    own: Mapping[str, Tensor] | None = None,
) -> None:
    """Everything that the next step depends on; the file that stood there is kept as ``previous``.

    Args:
        path: the file.
        model: its weights.
        optimizer: its moments.
        carry: of all streams.
        generators: torch's.
        progress: where the run stands; what it says of the carry is set.
        previous: another file.
        own: what single ranks have for themselves, by names that begin with their numbers.

    Raises:
        NonFinite: a weight is not a finite number; the file is left as it was.
    """
    refuse_non_finite(model)
    tensors = {f"model.{name}": p for name, p in model.named_parameters()}
    tensors |= {f"optimizer.{i}.{k}": v for i, s in optimizer.state_dict()["state"].items() for k, v in s.items() if isinstance(v, Tensor)}
    tensors |= {f"generator.{name}": state for name, state in generators.items()}
    tensors |= {f"{_OWN}{name}": tensor for name, tensor in (own or {}).items()}
    if carry is not None:
        tensors |= {f"carry.state.{i}": s for i, s in enumerate(carry.state)} | {f"carry.kept.{k}": v for k, v in carry.kept.items()}
        progress.carried, progress.kept, progress.made_by = tuple(range(len(carry.state))), tuple(carry.kept), carry.made_by
    else:
        progress.carried, progress.kept, progress.made_by = (), (), ""
    write_tensors(path, tensors, asdict(progress), previous)


class Loaded(NamedTuple):
    """What ``save_state`` was given, beside what has been put back already."""

    carry: Carry | None
    progress: Progress
    own: dict[str, Tensor]


def load_state(path: Path, model: AbstractModel, optimizer: torch.optim.Optimizer) -> Loaded:
    """Put everything back, torch's generators too.

    Raises:
        InputError: the file is missing, cut short, or does not belong to this model.
    """
    tensors, about = read_tensors(path)
    try:
        progress = msgspec.convert(about, Progress)
        load_parameters(path, model, {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, i, name = key.split(".", 2)
                moments.setdefault(int(i), {})[name] = value
        tensors["generator.cpu"]  # without it the run would go on to other bits
        _refuse_other_moments(moments, list(model.parameters()), optimizer)
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
        set_generator_states({k.removeprefix("generator."): v for k, v in tensors.items() if k.startswith("generator.")})
        device = model.head.weight.device
        state = tuple(tensors[f"carry.state.{i}"].to(device) for i in progress.carried)
        kept = {k: tensors[f"carry.kept.{k}"].to(device) for k in progress.kept}
    except (msgspec.ValidationError, KeyError, ValueError, RuntimeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is not the state of this run ({error}); expected the file that it wrote. Restore it, or train again."
        ) from None
    own = {k.removeprefix(_OWN): v for k, v in tensors.items() if k.startswith(_OWN)}
    return Loaded(Carry(state, kept, progress.made_by) if state else None, progress, own)


def _refuse_other_moments(
    moments: dict[int, dict[str, Tensor]], parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    names = _names_kept(optimizer, parameters[0])
    for i, values in moments.items():
        if not 0 <= i < len(parameters) or any(v.ndim and v.shape != parameters[i].shape for v in values.values()):
            raise ValueError(f"the optimiser's moments of weight {i} have another shape")
        if values.keys() != names:
            raise ValueError(f"the optimiser's moments of weight {i} have other names")
    if isinstance(optimizer, torch.optim.Adagrad) and len(moments) < len(parameters):  # the others begin anew where there are none
        raise ValueError("the optimiser's moments of some weights are missing")


def _names_kept(optimizer: torch.optim.Optimizer, like: Tensor) -> set[str]:
    """What the optimiser keeps of a weight, by a step over one number where it has nothing yet."""
    if not optimizer.state:
        one, optimizer = torch.nn.Parameter(like.new_zeros(1)), copy.copy(optimizer)
        optimizer.state, optimizer.param_groups = defaultdict(dict), [optimizer.param_groups[0] | {"params": [one]}]
        one.grad = torch.zeros_like(one)
        optimizer.step()
    return {name for name, value in next(iter(optimizer.state.values()), {}).items() if isinstance(value, Tensor)}
