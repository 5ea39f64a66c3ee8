"""``accelerate`` turns every recurrent layer of torch in a model into one of this package, in place; ``restore`` turns it back.

No module is rebuilt. Each layer object keeps its parameters, hooks, buffers and all references to it. Only its class changes, to a
subclass of the class that it had. Optimisers, tied weights, weight norm, DDP and Lightning therefore continue to work.

A user's subclass K of a torch layer becomes a class with the bases K and this package's layer: methods that K overrides come first,
then this package's ``forward``, then torch's class.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, final

from torch import nn
from torch.nn.utils import parametrize

from ._layers import GRU, LSTM, RNN, Layers

OURS: dict[type[nn.Module], type[nn.Module]] = {nn.RNN: RNN, nn.GRU: GRU, nn.LSTM: LSTM}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
RUNS = ("forward", "permute_hidden", "__call__")  # what torch's layers run and ours replace
OUR_NAMES = {name for ours in THEIRS for name in dir(ours)} - {name for theirs in OURS for name in dir(theirs)}

Model = TypeVar("Model", bound=nn.Module)
_log = logging.getLogger("throughtime")


@final
@dataclass(frozen=True)
class Accelerated:
    """What ``accelerate`` replaced. ``str`` lists it.

    Attributes:
        replaced: names of the layers that run on the packed kernels now.
        left: names of the recurrent layers that are unchanged, each with the reason.

    >>> from torch import nn
    >>> reports = []
    >>> model = accelerate(nn.ModuleDict({"step": nn.GRUCell(3, 5), "layer": nn.GRU(3, 5)}), report=reports.append)
    >>> reports[0].replaced, [name for name, reason in reports[0].left]
    (('layer',), ['step'])
    """

    replaced: tuple[str, ...]
    left: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        lines = [f"accelerated {len(self.replaced)} recurrent layer(s): {', '.join(self.replaced) or 'none'}"]
        return "\n".join([*lines, *(f"left {name}: {why}" for name, why in self.left)])


def accelerate(model: Model, *, report: Callable[[Accelerated], object] | None = None) -> Model:
    """Run every ``nn.RNN``, ``GRU`` and ``LSTM`` in ``model`` on the packed kernels. The model is changed in place.

    Args:
        model: any module, or a single layer.
        report: called with an ``Accelerated``; ``print``, for example. None: the report goes to the logger "throughtime", as a
            warning if a layer was left unchanged.

    Returns:
        ``model``.

    >>> from torch import nn
    >>> model = accelerate(nn.Sequential(nn.Embedding(9, 3), nn.GRU(3, 5)), report=print)
    accelerated 1 recurrent layer(s): 1
    >>> type(restore(model)[1]).__name__
    'GRU'
    """
    replaced, left = [], []
    for name, module in model.named_modules():
        if not isinstance(module, RECURRENT) or _theirs(_base(module)) is not None:
            continue
        if (why := _reason(module)) is None:
            _exchange(module, _ours(_base(module)))
            replaced.append(name or "the model itself")
        else:
            left.append((name or "the model itself", why))
    _tell(Accelerated(tuple(replaced), tuple(left)), report)
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
    modules = [(name, m, kind) for name, m in model.named_modules() if (kind := _theirs(_base(m))) is not None]
    for name, module, _ in modules:
        if why := _lacks(module):
            raise NotImplementedError(
                f"{name or 'the model itself'} has {why}, which torch.nn lacks: it cannot become one of torch's layers."
            )
    for _, module, kind in modules:
        _exchange(module, kind)
    return model


def _base(module: nn.Module) -> type[nn.Module]:
    """The module's class before any reparametrisation."""
    return parametrize.type_before_parametrizations(module)


def _ours(kind: type[nn.Module]) -> type[nn.Module]:
    """This package's class for one of torch's, or for a subclass of one."""
    return OURS[kind] if kind in OURS else _subclass(kind)


def _theirs(kind: type[nn.Module]) -> type[nn.Module] | None:
    """The torch class that one of this package's classes replaces; None for any other class."""
    return THEIRS.get(kind, _made_from(kind))


def _made_from(kind: type[nn.Module]) -> type[nn.Module] | None:
    return vars(kind).get("accelerated_from")


@functools.cache
def _subclass(kind: type[nn.Module]) -> type[nn.Module]:
    """A class with the bases ``kind`` and this package's layer. It is cached by ``kind``, so that copies and pickles get the same class."""

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        return _blank, (kind,), self.__getstate__()

    own = {"accelerated_from": kind, "__reduce_ex__": reduce, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind, OURS[_torch_kind(kind)]), own)


def _blank(kind: type[nn.Module]) -> nn.Module:
    """An instance of ``_subclass(kind)`` without its state, for unpickling."""
    made = _subclass(kind)
    return made.__new__(made)


def _torch_kind(kind: type[nn.Module]) -> type[nn.Module]:
    """Which of torch's three classes a class derives from."""
    return next(one for one in kind.__mro__ if one in OURS)


def _exchange(module: Any, base: type[nn.Module]) -> None:
    """Change the module's class to ``base``; for a reparametrised module, to a subclass of ``base`` with the same properties."""
    kind = type(module)
    if kind is _base(module):
        module.__class__ = base
    else:
        own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
        module.__class__ = type(kind.__name__, (base,), own)


def _reason(module: nn.Module) -> str | None:
    """Why a recurrent module cannot be exchanged."""
    if isinstance(module, nn.RNNCellBase):
        return "a single step has no sequence to keep its weights packed over"
    kind = _base(module)
    own = [one for one in kind.__mro__ if one not in nn.LSTM.__mro__ and one not in OURS]
    if not any(one in OURS for one in kind.__mro__) or any(name in vars(one) for one in own for name in RUNS):
        return f"it is a {kind.__qualname__}, whose own forward is not ours to replace"
    if "forward" in vars(module):
        return "its forward has been replaced on the object"
    given = {name for holder in (module, *own) for name in vars(holder)}
    if taken := sorted(
        OUR_NAMES
        & given.union(
            *(
                dict(found)
                for found in (module.named_parameters(recurse=False), module.named_buffers(recurse=False), module.named_children())
            )
        )
    ):
        return f"it is a {kind.__qualname__} with its own {', '.join(taken)}, a name that ours uses for something else"
    return None


def _lacks(module: nn.Module) -> str:
    """The options in use that torch's class lacks."""
    assert isinstance(module, Layers), "the caller has checked the class"
    return ", ".join(module.beyond_torch())


def _tell(done: Accelerated, report: Callable[[Accelerated], object] | None) -> None:
    if report is not None:
        report(done)
    else:
        _log.log(logging.WARNING if done.left else logging.INFO, "%s", done)
