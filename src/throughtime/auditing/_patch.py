"""Replaces attributes of other people's classes and modules for a while."""

import sys
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType
from typing import Any, final

from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook


@final
class Patches:
    """A context at whose end every replaced attribute has its earlier value again, and every hook is removed."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def replace(self, owner: Any, name: str, value: Any) -> None:
        before = vars(owner)[name]
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before))

    def before_steps(self, hook: Callable[[Any, Any, Any], None]) -> None:
        self._undo.append(register_optimizer_step_pre_hook(hook).remove)

    def after_steps(self, hook: Callable[[Any, Any, Any], None]) -> None:
        self._undo.append(register_optimizer_step_post_hook(hook).remove)

    def __enter__(self) -> "Patches":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._undo:
            self._undo.pop()()


def places(functions: Sequence[Callable[..., Any]]) -> list[tuple[Any, str]]:
    """Every name that a loaded module has for one of the functions, as after ``from torch.nn.utils import clip_grad_norm_``."""
    wanted = {id(f) for f in functions}
    loaded = [module for module in list(sys.modules.values()) if type(module) is ModuleType]  # asking a lazy one would import it
    return [(module, name) for module in loaded for name, found in list(vars(module).items()) if id(found) in wanted]
