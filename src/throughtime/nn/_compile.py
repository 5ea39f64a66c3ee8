"""Let torch.compile look at our layers.

Its tracer refuses whatever is an ``nn.RNN``, ``GRU`` or ``LSTM``, by its type alone: torch's own forward would fall apart into thousands
of nodes. Ours is one node a layer and direction, but it *is* an ``nn.GRU`` too. ``torch._dynamo.config.allow_rnn`` lifts the refusal for
all; here it is lifted while one of our layers is being wrapped, and torch's own are treated as ever.

The tracer takes seconds to import, so it is met when somebody else imports it.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any, final

from torch import nn

_BUILDER = "torch._dynamo.variables.builder"


def let_compile_see(kind: type[nn.Module]) -> None:
    """Lift the refusal for instances of ``kind``, now or when torch's tracer is imported."""
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
    taken = getattr(builder.VariableBuilder, "wrap_module", None)
    if taken is None:  # another torch, with another tracer: the refusal names the flag that lifts it for all
        return

    def wrap_module(self: Any, value: nn.Module) -> Any:
        if not isinstance(value, kind):
            return taken(self, value)
        with builder.config.patch(allow_rnn=True):
            return taken(self, value)

    builder.VariableBuilder.wrap_module = wrap_module
