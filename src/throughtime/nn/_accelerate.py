"""``accelerate`` turns every recurrent layer of torch in a model into one of this package, in place; ``restore`` turns it back.

No module is rebuilt. Each layer object keeps its parameters, hooks, buffers and all references to it (``_exchange.py``). Optimisers, tied
weights, weight norm, DDP and Lightning therefore continue to work.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
from torch import nn

from ._exchange import RECURRENT, base_of, exchanged, give_back, options_of, theirs, torchs_own, why_not
from ._timing import Gain, gains_on

Model = TypeVar("Model", bound=nn.Module)
_log = logging.getLogger("throughtime")


@final
@dataclass(frozen=True)
class Accelerated:
    """What ``accelerate`` replaced. ``str`` lists it.

    Attributes:
        replaced: names of the layers that run on the packed kernels now.
        left: names of the recurrent layers that are unchanged, each with the reason.
        already: names of the layers that ran on the packed kernels before.
        gains: what the example showed of each layer that it reached, if an example was given.

    >>> from torch import nn
    >>> reports = []
    >>> model = accelerate(nn.ModuleDict({"step": nn.GRUCell(3, 5), "layer": nn.GRU(3, 5)}), report=reports.append)
    >>> reports[0].replaced, [name for name, reason in reports[0].left]
    (('layer',), ['step'])
    """

    replaced: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    already: tuple[str, ...] = ()
    gains: tuple[tuple[str, Gain], ...] = ()

    def __str__(self) -> str:
        lines = [f"accelerated {len(self.replaced)} recurrent layer(s): {', '.join(self.replaced) or 'none'}"]
        if self.already:
            lines.append(f"accelerated before: {', '.join(self.already)}")
        if not (self.replaced or self.left or self.already):
            lines.append("the model has no torch.nn.RNN, GRU or LSTM")
        lines += [f"{name}: {gain}" for name, gain in self.gains if name in self.replaced]
        return "\n".join([*lines, *(f"left {name}: {why}" for name, why in self.left)])


def accelerate(model: Model, *, example: Any = None, report: Callable[[Accelerated], object] | None = None) -> Model:
    """Run every ``nn.RNN``, ``GRU`` and ``LSTM`` in ``model`` on the packed kernels. The model is changed in place.

    A layer is left as it is if its class does not permit the exchange, or if torch's own is faster: an LSTM with projections, an LSTM in
    bfloat16, any layer in bfloat16 with 512 or more units. With an example, a measurement decides instead.

    To everything that saves, exports or records operations the model is still torch's: ``torch.save(model)``, ``torch.onnx.export``,
    ``jit.trace`` give what they gave before. What asks for the exact class of a layer needs ``as_torch``.

    Args:
        model: any module, or a single layer.
        example: arguments of ``model``, one tensor or a tuple. Each layer is run on what reaches it from them, as torch's and as ours,
            forward and, in training mode, backward. Only layers that are faster as ours are exchanged; the report has the times.
        report: called with an ``Accelerated``; ``print``, for example. None: the report goes to the logger "throughtime", as a
            warning if a layer was left unchanged or if there was none.

    Returns:
        ``model``.

    >>> from torch import nn
    >>> model = accelerate(nn.Sequential(nn.Embedding(9, 3), nn.GRU(3, 5)), report=print)
    accelerated 1 recurrent layer(s): 1
    >>> isinstance(model[1], nn.GRU), type(restore(model)[1]) is nn.GRU
    (True, True)
    """
    found = {name or "the model itself": module for name, module in model.named_modules() if isinstance(module, RECURRENT)}
    already = tuple(name for name, module in found.items() if theirs(base_of(module)) is not None)
    reasons = {name: why_not(module) for name, module in found.items() if name not in already}
    fit = {name: found[name] for name, why in reasons.items() if why is None}
    gains = {} if example is None else gains_on(model, example, fit)
    reasons |= {name: _slower(module, gains.get(name)) for name, module in fit.items()}
    replaced = tuple(name for name, why in reasons.items() if why is None)
    for name in replaced:
        exchanged(found[name])
    left = tuple((name, why) for name, why in reasons.items() if why is not None)
    _tell(Accelerated(replaced, left, already, tuple(gains.items())), report)
    return model


def restore(model: Model) -> Model:
    """Undo ``accelerate``: the layers get their earlier classes back and keep their parameters.

    A layer that was constructed as ``tt.GRU`` becomes a ``torch.nn.GRU`` too.

    Raises:
        NotImplementedError: a layer has an option that torch's layer lacks; the message names it. The model is then unchanged.

    >>> from torch import nn
    >>> type(restore(accelerate(nn.LSTM(3, 5), report=print))) is nn.LSTM
    accelerated 1 recurrent layer(s): the model itself
    True
    """
    give_back(_ours_in(model))
    return model


@contextlib.contextmanager
def as_torch(model: Model) -> Iterator[Model]:
    """Within the block, every layer of this package in ``model`` is torch's own; afterwards it is what it was before.

    For what looks at the exact class of a layer: ``torch.jit.script``, ``quantize_dynamic``, Opacus. Blocks may be nested, and end as they
    should after an exception. Other threads see the change too.

    Args:
        model: any module, or a single layer.

    Raises:
        NotImplementedError: as ``restore``.

    >>> from torch import nn
    >>> model = accelerate(nn.Sequential(nn.GRU(3, 5)), report=print)
    accelerated 1 recurrent layer(s): 0
    >>> with as_torch(model):
    ...     scripted = torch.jit.script(model)
    >>> type(model[0]) is nn.GRU
    False
    """
    with torchs_own(_ours_in(model)):
        yield model


def _ours_in(model: nn.Module) -> list[nn.Module]:
    """The layers of this package's classes, which must be without options that torch's lack."""
    modules = [(name, module) for name, module in model.named_modules() if theirs(base_of(module)) is not None]
    for name, module in modules:
        if why := options_of(module):
            raise NotImplementedError(
                f"{name or 'the model itself'} has {why}, which torch.nn lacks: it cannot become one of torch's layers."
            )
    return [module for _, module in modules]


def _slower(module: Any, gain: Gain | None) -> str | None:
    """Why torch's own layer is the faster one: by measurement if there is one, else by what was measured of such layers."""
    if gain is not None:
        return None if gain.times > 1 else f"torch's own is faster on the example: {gain}"
    if module.proj_size:
        return "it has a projection, for which there is no packed kernel: torch's own is faster"
    if module.weight_ih_l0.dtype == torch.bfloat16 and (isinstance(module, nn.LSTM) or module.hidden_size >= 512):
        return "it is in bfloat16, which the packed kernels compute in float32: torch's own is faster at this size"
    return None


def _tell(done: Accelerated, report: Callable[[Accelerated], object] | None) -> None:
    if report is not None:
        report(done)
    else:
        good = not done.left and (done.replaced or done.already)
        _log.log(logging.INFO if good else logging.WARNING, "%s", done)
