"""How a layer object becomes one of this package's and one of torch's again: its class changes, and nothing else.

A class K, torch's own or a stranger's subclass of it, becomes a class with the bases K and this package's layer: methods that K overrides
come first, then this package's ``forward``, then torch's class. ``super().forward`` in K is then this package's.

Whoever saves an exchanged layer, or asks for its exact class in ``model.apply``, finds K.
"""

import abc
import contextlib
import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from torch import nn
from torch.nn.utils import parametrize

from ._layer_base import Layers
from ._layers import GRU, LSTM, RNN

OURS: dict[type[nn.Module], type[nn.Module]] = {nn.RNN: RNN, nn.GRU: GRU, nn.LSTM: LSTM}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
NOT_OURS = ("permute_hidden", "__call__")  # what torch's layers run and ours do not
OUR_NAMES = {name for ours in THEIRS for name in dir(ours)} - {name for base in (*OURS, abc.ABC) for name in dir(base)}

# The smallest layer of each class, without numbers: what unpickling fills with the saved state.
_EMPTY = {nn.RNN: (1, 1, 1, "tanh", True, False, 0.0, False, 0, "meta")} | {
    kind: (1, 1, 1, True, False, 0.0, False, 0, "meta") for kind in (nn.GRU, nn.LSTM)
}


class Exchanged:
    """What a layer has besides ours while it is exchanged. To those who save it or initialise it, it is what it was.

    >>> import pickle
    >>> type(pickle.loads(pickle.dumps(exchanged(nn.GRU(3, 5)))))
    <class 'torch.nn.modules.rnn.GRU'>
    """

    exchanged_from: ClassVar[type[nn.Module]]

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        kind = self.exchanged_from
        if kind in _EMPTY:  # a call of the class itself, which torch.load(weights_only=True) permits where the class is permitted
            return kind, _EMPTY[kind], self.__getstate__()
        was = _blank(kind)
        object.__setattr__(was, "__dict__", self.__dict__)
        return was.__reduce_ex__(1)  # in later protocols a pickler insists on the present class

    def __copy__(self: Any) -> Any:
        return _filled(type(self), dict(self.__dict__))

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        new = memo[id(self)] = _blank(type(self))
        state = {name: value for name, value in self.__dict__.items() if name != "_flat_weight_refs"}  # __setstate__ makes new ones
        new.__setstate__(copy.deepcopy(state, memo))
        return new

    def apply(self: Any, fn: Callable[[nn.Module], None]) -> Any:
        """As ``nn.Module.apply``. ``fn`` finds torch's own class, for which it may have a rule."""
        with torchs_own([self]):
            nn.Module.apply(self, fn)
        return self


def _blank(kind: Any) -> Any:
    """An object of the class without attributes."""
    return kind.__new__(kind)


def _filled(kind: type[Any], state: dict[str, Any]) -> Any:
    new = _blank(kind)
    new.__setstate__(state)
    return new


def base_of(module: nn.Module) -> type[nn.Module]:
    """The module's class before any reparametrisation."""
    return parametrize.type_before_parametrizations(module)


def theirs(kind: type[nn.Module]) -> type[nn.Module] | None:
    """The torch class that one of this package's classes stands for; None for any other class."""
    return THEIRS.get(kind, vars(kind).get("exchanged_from"))


def is_exchanged(module: nn.Module) -> bool:
    """Whether the module was exchanged, and is not a layer that was constructed as ours."""
    return "exchanged_from" in vars(base_of(module))


def exchanged(module: nn.Module) -> nn.Module:
    """The same module, of this package's class."""
    _set_class(module, _class_for(base_of(module)))
    return module


@contextlib.contextmanager
def torchs_own(modules: list[nn.Module]) -> Iterator[None]:
    """Within the block the modules, all of this package's classes, have the classes that these stand for."""
    changed = [(module, base_of(module)) for module in modules]
    give_back(modules)
    try:
        yield
    finally:
        for module, ours in changed:
            if base_of(module) is theirs(ours):  # else the block has given it another class
                _set_class(module, ours)


def give_back(modules: list[nn.Module]) -> None:
    """Give modules of this package's classes the classes that these stand for."""
    for module in modules:
        kind = theirs(base_of(module))
        assert kind is not None, "the caller has chosen modules of this package"
        _set_class(module, kind)


def _set_class(module: Any, base: type[nn.Module]) -> None:
    """Change the module's class to ``base``; for a reparametrised module, to a subclass of ``base`` with the same properties."""
    kind = type(module)
    if kind is base_of(module):
        module.__class__ = base
    else:
        own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
        module.__class__ = type(kind.__name__, (base,), own)


@functools.cache
def _class_for(kind: type[nn.Module]) -> type[nn.Module]:
    """A class with the bases ``kind`` and this package's layer. It is cached by ``kind``: layers of one class stay layers of one class."""
    ours = OURS[next(one for one in kind.__mro__ if one in OURS)]
    shown = ours if kind in OURS else kind
    own = {"exchanged_from": kind, "__module__": shown.__module__, "__qualname__": shown.__qualname__, "__doc__": shown.__doc__}
    return type(kind.__name__, (Exchanged, ours) if kind in OURS else (kind, Exchanged, ours), own)


def why_not(module: nn.Module) -> str | None:
    """Why a recurrent module of torch's cannot be exchanged; None if it can."""
    if isinstance(module, nn.RNNCellBase):
        return "a single step has no sequence to keep its weights packed over"
    kind = base_of(module)
    name, strangers = (
        f"{kind.__module__}.{kind.__qualname__}",
        [one for one in kind.__mro__ if one not in nn.LSTM.__mro__ and one not in OURS],
    )
    if not any(one in OURS for one in kind.__mro__):
        return f"it is a {name}, which derives from none of torch's RNN, GRU and LSTM"
    if taken := [method for method in NOT_OURS if any(method in vars(one) for one in strangers)]:
        return f"it is a {name} with its own {taken[0]}, which ours does not run"
    if any("forward" in vars(one) and not _calls_super(vars(one)["forward"]) for one in strangers):
        return f"it is a {name}, whose own forward does not call super().forward"
    if "forward" in vars(module):
        return "its forward has been replaced on the object"
    if taken := sorted(OUR_NAMES & _names_on(module, strangers)):
        return f"it is a {name} with its own {', '.join(taken)}, a name that ours uses for something else"
    return _no_common_class(kind)


def _calls_super(forward: Any) -> bool:
    """Whether a method seems to call ``super().forward``: both names are in its code."""
    code = getattr(inspect.unwrap(forward), "__code__", None)
    return code is not None and {"super", "forward"} <= set(code.co_names)


def _names_on(module: nn.Module, strangers: list[type]) -> set[str]:
    """Every name that the object or a stranger's class defines."""
    registered = (module.named_parameters(recurse=False), module.named_buffers(recurse=False), module.named_children())
    return {name for holder in (vars(module), *map(vars, strangers), *map(dict, registered)) for name in holder}


def _no_common_class(kind: type[nn.Module]) -> str | None:
    try:
        _class_for(kind)
    except TypeError as error:  # an order of bases or a metaclass that goes with no other
        return f"Python makes no class of {kind.__module__}.{kind.__qualname__} and ours ({error})"
    return None


def options_of(module: nn.Module) -> str:
    """The options in use that torch's class lacks."""
    assert isinstance(module, Layers), "the caller has chosen modules of this package"
    return ", ".join(module.beyond_torch())
