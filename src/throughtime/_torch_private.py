"""Every private place of torch that is touched, each with the reason and with what happens when it moves. The only file that does.

``tests/test_torch_private.py`` has a canary for each, which says what has moved.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any, final

import torch
from torch import nn
from torch.autograd import forward_ad

_functorch = getattr(torch._C, "_are_functorch_transforms_active", None)
_BUILDER = "torch._dynamo.variables.builder"


def functorch_is_active() -> bool:
    """Whether a transform of ``torch.func`` is at work, which must see an operator and not our node of autograd.

    torch has no public way to ask. When this one moves the answer is always yes: what is right under a transform is right without one,
    and slower.
    """
    return True if _functorch is None else _functorch()


def forward_mode_is_active() -> bool:
    """Whether forward-mode derivatives are being taken, which our node of autograd does not give.

    torch has no public way to ask without a tensor in hand. When this one moves the answer is always no, and torch itself refuses
    forward mode through the node.
    """
    return getattr(forward_ad, "_current_level", -1) >= 0


def let_compile_see(kind: type[nn.Module]) -> None:
    """Let torch.compile trace instances of ``kind``, now or when torch's tracer is imported.

    Its tracer refuses whatever is an ``nn.RNN``, ``GRU`` or ``LSTM``, by its type alone: torch's own forward would fall apart into
    thousands of nodes. Ours is one node a layer and direction, but it *is* an ``nn.GRU`` too. The public flag
    ``torch._dynamo.config.allow_rnn`` lifts the refusal for all; here it is lifted while one of our layers is being wrapped, and torch's
    own are treated as ever. The tracer takes seconds to import, so it is met when somebody else imports it.

    When the tracer's method moves nothing is done, and torch's refusal names the flag.
    """
    if _BUILDER in sys.modules:
        _lift(sys.modules[_BUILDER], kind)
    else:
        sys.meta_path.insert(0, _Watcher(kind))


@final
class _Watcher(MetaPathFinder):
    """Sees the tracer's import, once."""

    def __init__(self, kind: type[nn.Module]) -> None:
        self.kind = kind

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _lift(module, self.kind)

            loader.exec_module = exec_module
        return spec


def _lift(builder: Any, kind: type[nn.Module]) -> None:
    """Wrap the tracer's own way of taking a module in."""
    theirs = getattr(builder.VariableBuilder, "wrap_module", None)
    if theirs is None:
        return

    def wrap_module(self: Any, value: nn.Module) -> Any:
        if not isinstance(value, kind):
            return theirs(self, value)
        with builder.config.patch(allow_rnn=True):
            return theirs(self, value)

    builder.VariableBuilder.wrap_module = wrap_module
