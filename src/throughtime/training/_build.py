"""What the options of every run stand for: the cell, the gradient method, the device."""

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable
from functools import cache

import torch

from .. import _check, cells, nn
from .._check import InputError
from ..gradients import RTRL, AbstractGradient, BlockRTRL, SnAp, TruncatedBPTT, WithOmega
from ..kernels import serves
from ..models import AbstractModel
from ._cost import influence_numbers
from ._gradients import method_of, with_clip
from .options import AnyRun, LoopOptions, StackOptions

_ACTIVATIONS = {"tanh": cells.Tanh(), "relu": cells.Relu(), "identity": cells.Identity(), "sigmoid": cells.Sigmoid()}
_INITIALS = {"zeros": nn.Zeros(), "random": nn.Random(), "learnable": nn.Learnable()}
_INITIALISERS = {"torch": (), "orthogonal": (nn.Orthogonal(),), "identity": (nn.IdentityMatrix(),)}


def initialisers(network: StackOptions) -> list[nn.AbstractInitialiser]:
    """Where the recurrent weights start."""
    rules = [nn.TorchUniform(), *_INITIALISERS[network.init]]
    rules += [] if network.forget_bias is None else [nn.ForgetBias(network.forget_bias)]
    return rules + ([] if network.chrono is None else [nn.Chrono(network.chrono)])


def initial(network: StackOptions) -> nn.AbstractInitial:
    """The state before the first step."""
    return _INITIALS[network.initial]


def build_cell(network: StackOptions) -> cells.AbstractCell:
    """The recurrent cell."""
    match network.cell:
        case "rnn":
            return cells.Elman(_ACTIVATIONS[network.activation or "tanh"])
        case "gru":
            return cells.GRU()
        case "lstm":
            return cells.LSTM()
        case name:
            return made_cell(cells.zoo.NAMES[name] if name in cells.zoo.NAMES else imported_cell(name), network.hidden)


def made_cell(kind: type[cells.AbstractCell], hidden: int) -> cells.AbstractCell:
    """A cell of a class whose fields all have defaults, but for ``hidden_size``."""
    wanted = inspect.signature(kind).parameters.values()
    needed = [
        p.name for p in wanted if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != "hidden_size"
    ]
    if needed:
        raise InputError(
            f"--cell names {kind.__name__}, which cannot be made without {', '.join(needed)}; expected a class whose arguments all have "
            "defaults, but for hidden_size. Name a subclass or a function with these filled in."
        )
    return kind(**({"hidden_size": hidden} if any(p.name == "hidden_size" for p in wanted) else {}))


_named = set[str]()  # cells of their own that whoever runs this process has named


def name_cell(place: str) -> None:
    """Let MODULE:CLASS be imported, for it was named by whoever runs this process and not by a file."""
    _named.add(place)


def imported_cell(place: str) -> type[cells.AbstractCell]:
    """The class that MODULE:CLASS names; modules of the working folder are found too.

    A run folder or a configuration may be a stranger's, and importing a module runs its code: it must have been imported already, or the
    cell must have been named by ``name_cell`` or in ``THROUGHTIME_CELLS``, a list with commas.

    Raises:
        InputError: nobody but a file has named it, there is no such module or class, or it is no cell.
    """
    module, _, name = place.partition(":")
    if not (module in sys.modules or place in _named or place in os.environ.get("THROUGHTIME_CELLS", "").split(",")):
        raise InputError(
            f"the cell is {place}, Python code that a file names; expected you to name it, since importing it runs it. If you trust it, "
            f"set THROUGHTIME_CELLS={place} (or import {module} first, or give `cell='{place}'`)."
        )
    sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise InputError(
            f"the cell is {place}, and {module} cannot be imported ({type(error).__name__}: {error}); expected a Python module that is "
            "installed or in this folder. A run needs the module that it was trained with."
        ) from None
    finally:
        sys.path.remove(os.getcwd())
    if not (isinstance(found, type) and issubclass(found, cells.AbstractCell)):
        raise InputError(
            f"the cell is {place}, and {module} has {'no such name' if found is None else f'{found!r:.80} there'}; expected a class that "
            "derives from throughtime.cells.AbstractCell. See examples/your_own_cell.py."
        )
    return found


def check_cell(network: StackOptions, loop: LoopOptions) -> None:
    """Compile a cell that has no kernel of the package's, and say so where it cannot have one: nothing else would tell why it is slow.

    Raises:
        InputError: its step is no step.
    """
    if network.cell in ("rnn", "gru", "lstm") or loop.kernels == "plain" or loop.device != "cpu":
        return
    with torch.random.fork_rng(devices=[]):  # learned vectors may begin at random
        why = serves(build_cell(network))
    if why not in ("fast", "plain: asked for"):
        _tell_once(network.cell, why.removeprefix("plain: "))


@cache
def _tell_once(name: str, why: str) -> None:
    logging.getLogger("throughtime").warning("throughtime runs %s by the plain loop, which is right and slow: %s.", name, why)


def check_memory(build: Callable[[], AbstractModel], loop: LoopOptions, remedy: str = "") -> None:
    """Refuse sizes that this machine cannot hold, as ``planned`` counts them."""
    with torch.device("meta"):
        needed, what = planned(build(), loop)
    _check.memory(needed, what, lower(loop, remedy))


def planned(model: AbstractModel, loop: LoopOptions) -> tuple[int, str]:
    """Bytes of weights, gradients and moments, of what one window keeps, and of an influence matrix; and what they are for.

    The matrix is there before a step and after it.
    """
    weights = 4 * sum(p.numel() for p in model.parameters())
    r, outputs = model.recurrence, model.head.weight.shape[0]
    directions = 2 if isinstance(r, nn.Bidirectional) else 1
    kept_a_step = directions * r.num_layers * r.hidden_size * (2 * r.cell.gates + 3) + 2 * outputs
    matrix = 0 if loop.gradient is None else 2 * 4 * loop.batch_size * influence_numbers(model, method_of(loop.gradient))
    return (
        4 * weights + 4 * kept_a_step * loop.batch_size * loop.bptt + matrix,
        f"training {weights // 4:,} weights with {loop.batch_size} streams of {loop.bptt} steps"
        + (f" by {loop.gradient}, whose influence matrix alone needs {matrix / 2**30:,.1f} GiB," if matrix else ""),
    )


def lower(loop: LoopOptions, remedy: str = "") -> str:
    """What to do about sizes that are too large."""
    if loop.gradient is not None and isinstance(method_of(loop.gradient), RTRL | BlockRTRL | SnAp):
        return f"Lower `hidden`, `layers`, {remedy}or `batch_size`; `gradient='snap:order=1'` and `gradient='uoro'` keep no such matrix."
    return f"Lower `hidden`, `layers`, {remedy}`batch_size` or `bptt`; `gradient='checkpointed:budget=64MB'` keeps less of a long window."


def gradient_of(run: AnyRun) -> AbstractGradient:
    """How dL/dθ is found."""
    method = TruncatedBPTT(run.loop.bptt) if run.loop.gradient is None else method_of(run.loop.gradient)
    method = with_clip(method, run.optimiser.clip_step)
    return WithOmega(method, run.optimiser.omega) if run.optimiser.omega else method


def device(name: str) -> torch.device:
    """A torch device that is there.

    Raises:
        InputError: torch does not know it, or this machine has none.
    """
    try:
        found = torch.device(name)
        if found.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(f"throughtime does not know {found.type}")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"`device` is {name!r}, which cannot be used here ({reason:.80}); expected cpu, or cuda or mps where there is one."
        ) from None
    return found
