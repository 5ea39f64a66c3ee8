"""The whole state of a training run as tensors and JSON, so that a run goes on to the same bits."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import msgspec
import torch
from torch import Tensor

from .._check import InputError, NonFinite
from ..gradients import Carry
from ..models import LanguageModel
from ._files import load_parameters, read_tensors, write_tensors


@final
@dataclass
class Progress:
    """Where training stands; plain numbers."""

    step: int = 0
    clipped: int = 0  # steps whose gradient a clip changed
    seconds: float = 0.0  # spent in training, over all resumptions
    best: float | None = None  # nats a symbol on validation
    best_step: int = 0
    carried: tuple[int, ...] = ()  # how many state tensors, if a carry stands
    kept: tuple[str, ...] = ()  # the names of what the carry keeps beside
    made_by: str = ""


def save_state(
    path: Path, model: LanguageModel, optimizer: torch.optim.Optimizer, carry: Carry | None, rng: Tensor, progress: Progress
) -> None:
    """Everything that the next step depends on.

    Raises:
        NonFinite: a weight is not a finite number; the file is left as it was.
    """
    for name, p in model.named_parameters():
        if not torch.isfinite(p).all():
            raise NonFinite(f"the weight {name}, after the step")
    tensors = {f"model.{name}": p for name, p in model.named_parameters()}
    tensors |= {f"optimizer.{i}.{k}": v for i, s in optimizer.state_dict()["state"].items() for k, v in s.items() if isinstance(v, Tensor)}
    tensors["rng"] = rng
    if carry is not None:
        tensors |= {f"carry.state.{i}": s for i, s in enumerate(carry.state)} | {f"carry.kept.{k}": v for k, v in carry.kept.items()}
        progress.carried, progress.kept, progress.made_by = tuple(range(len(carry.state))), tuple(carry.kept), carry.made_by
    else:
        progress.carried, progress.kept, progress.made_by = (), (), ""
    write_tensors(path, tensors, asdict(progress))


def load_state(path: Path, model: LanguageModel, optimizer: torch.optim.Optimizer) -> tuple[Carry | None, Progress]:
    """Put everything back, torch's generator too.

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
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
        torch.set_rng_state(tensors["rng"])
        device = model.head.weight.device
        state = tuple(tensors[f"carry.state.{i}"].to(device) for i in progress.carried)
        kept = {k: tensors[f"carry.kept.{k}"].to(device) for k in progress.kept}
    except (msgspec.ValidationError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is not the state of this run ({error}); expected the file that it wrote. Restore it, or train again."
        ) from None
    return (Carry(state, kept, progress.made_by) if state else None), progress
