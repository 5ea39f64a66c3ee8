"""Somebody else's model on the packed kernels: each of torch's recurrent layers becomes ours where it stands, and back.

Nothing is built anew. The layer object stays, and with it its parameters, hooks, buffers and everyone's references to it; its class
alone is exchanged, for a subclass of itself. So optimisers, tied weights, weight norm, DDP and Lightning notice nothing.
"""

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
        if not isinstance(module, RECURRENT) or _base(type(module)) in THEIRS:
            continue
        if (why := _reason(module)) is None:
            _exchange(module, OURS)
            replaced.append(name or "the model itself")
        else:
            left.append((name or "the model itself", why))
    _tell(Accelerated(tuple(replaced), tuple(left)), report)
    return model


def restore(model: Model) -> Model:
    """Undo ``accelerate``: torch's classes again, the same parameters.

    A layer that was made as ``tt.GRU`` is turned into torch's too, unless it has options that torch's lacks.

    Raises:
        NotImplementedError: such a layer, by name. Nothing has been changed then.
    """
    modules = [(name, m) for name, m in model.named_modules() if _base(type(m)) in THEIRS]
    for name, module in modules:
        if why := _lacks(module):
            raise NotImplementedError(
                f"{name or 'the model itself'} has {why}, which torch.nn lacks: it cannot become one of torch's layers."
            )
    for _, module in modules:
        _exchange(module, THEIRS)
    return model


def _base(kind: type[nn.Module]) -> type[nn.Module]:
    """The class that a reparametrisation has made its own class from, or the class itself."""
    return kind.__mro__[1] if kind.__module__ == parametrize.__name__ and kind.__name__.startswith("Parametrized") else kind


def _exchange(module: Any, table: dict[type[nn.Module], type[nn.Module]]) -> None:
    """Give it the other class; a reparametrised one a class with the same properties over the other base."""
    kind, base = type(module), _base(type(module))
    if base is kind:
        module.__class__ = table[kind]
    else:
        own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
        module.__class__ = type(kind.__name__, (table[base],), own)


def _reason(module: nn.Module) -> str | None:
    """Why a recurrent module cannot be exchanged."""
    base = _base(type(module))
    if isinstance(module, nn.RNNCellBase):
        return "a single step has no sequence to keep its weights packed over"
    if base not in OURS:
        return f"it is a {type(module).__qualname__}, whose own forward is not ours to replace"
    if "forward" in vars(module):
        return "its forward has been replaced on the object"
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
