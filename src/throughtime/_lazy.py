"""Packages that import their public names when the first of them is used, so that the command can answer before torch is imported."""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def lazily(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` (PEP 562) for a package whose public names are those of its module ``_public``."""

    def get(name: str) -> Any:
        if name.startswith("_") and name != "__all__":
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if find_spec(f"{package}.{name}") is not None:
            return import_module(f"{package}.{name}")
        names = _public_names(package)
        vars(sys.modules[package]).update(names)
        if name == "__all__":
            return sorted(names)
        try:
            return names[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None

    return get, lambda: sorted({*vars(sys.modules[package]), *_public_names(package)})


def _public_names(package: str) -> dict[str, Any]:
    return {name: value for name, value in vars(import_module(f"{package}._public")).items() if not name.startswith("_")}
