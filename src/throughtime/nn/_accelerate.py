"""Somebody else's model on the packed kernels: each of torch's recurrent layers becomes ours where it stands, and back.

Nothing is built anew. The layer object stays, and with it its parameters, hooks, buffers and everyone's references to it; its class
alone is exchanged, for a subclass of itself. So optimisers, tied weights, weight norm, DDP and Lightning notice nothing.

A subclass of somebody's own, K, becomes a class over K and ours: what K overrides is found first, then our forward, then torch's class.
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
    """What ``accelerate`` did.

    Attributes:
        replaced: names of the layers that are ours now.
        left: names of recurrent layers that stay as they are, with the reason.
    """

    replaced: tuple[str, ...]
    left: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        lines = [f"accelerated {len(self.replaced)} recurrent layer(s): {', '.join(self.replaced) or 'none'}"]
        return "\n".join([*lines, *(f"left {name}: {why}" for name, why in self.left)])


def accelerate(model: Model, *, report: Callable[[Accelerated], object] | None = None) -> Model:
    """Put every ``nn.RNN``, ``GRU`` and ``LSTM`` in ``model`` on the packed kernels, in place.

    Args:
        model: any module; the layer itself, too.
        report: is handed what was replaced, and what was left and why; ``print`` will do. None: to the logger "throughtime", as a
            warning where something was left.

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
    """Undo ``accelerate``: the classes of before, the same parameters.

    A layer that was made as ``tt.GRU`` is turned into torch's too, unless it has options that torch's lacks.

    Raises:
        NotImplementedError: such a layer, by name. Nothing has been changed then.

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
    """Its class, or the one that a reparametrisation has made its class from."""
    return parametrize.type_before_parametrizations(module)


def _ours(kind: type[nn.Module]) -> type[nn.Module]:
    """Our class for torch's, or for a subclass of torch's."""
    return OURS[kind] if kind in OURS else _subclass(kind)


def _theirs(kind: type[nn.Module]) -> type[nn.Module] | None:
    """The class that ours stands for; None for a class that is not ours."""
    return THEIRS.get(kind, _made_from(kind))


def _made_from(kind: type[nn.Module]) -> type[nn.Module] | None:
    return vars(kind).get("accelerated_from")


@functools.cache
def _subclass(kind: type[nn.Module]) -> type[nn.Module]:
    """A class over ``kind`` and ours; it is found again by ``kind``, so that a copy or a pickle comes back as the same class."""

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        return _blank, (kind,), self.__getstate__()

    own = {"accelerated_from": kind, "__reduce_ex__": reduce, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind, OURS[_torch_kind(kind)]), own)


def _blank(kind: type[nn.Module]) -> nn.Module:
    """An instance of ``_subclass(kind)`` before its state is set."""
    made = _subclass(kind)
    return made.__new__(made)


def _torch_kind(kind: type[nn.Module]) -> type[nn.Module]:
    """Which of torch's three a class is."""
    return next(one for one in kind.__mro__ if one in OURS)


def _exchange(module: Any, base: type[nn.Module]) -> None:
    """Give it the class ``base``; a reparametrised one a class with the same properties over it."""
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
    if taken := sorted(OUR_NAMES & given.union(module._parameters, module._buffers, module._modules)):
        return f"it is a {kind.__qualname__} with its own {', '.join(taken)}, a name that ours uses for something else"
    return None


def _lacks(module: nn.Module) -> str:
    """What of ours torch's class would not know."""
    assert isinstance(module, Layers), "the caller has looked"
    return ", ".join(module.beyond_torch())


def _tell(done: Accelerated, report: Callable[[Accelerated], object] | None) -> None:
    if report is not None:
        report(done)
    else:
        _log.log(logging.WARNING if done.left else logging.INFO, "%s", done)
