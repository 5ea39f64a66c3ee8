"""Packages that import a public name's module when the name is first used.

The command answers before torch is imported, and a program that uses one layer does not import the whole house.
"""

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def lazily(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` (PEP 562) for a package whose public names are those that its module ``_public`` imports."""

    def get(name: str) -> Any:
        if name == "__all__":
            return sorted(_places(package))
        if name.startswith("_") or (name not in _places(package) and find_spec(f"{package}.{name}") is None):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = _imported(package, *_places(package).get(name, (None, name)))
        vars(sys.modules[package])[name] = value
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *_places(package)})


def _imported(package: str, module: str | None, name: str) -> Any:
    """A name of one of the package's modules; without a module, the module of that name."""
    return import_module(f"{package}.{name}") if module is None else getattr(import_module(f"{package}.{module}"), name)


@cache
def _places(package: str) -> dict[str, tuple[str | None, str]]:
    """Module and name of every public name, as ``_public`` imports them. It is read and not run: to run it is to import everything."""
    spec = find_spec(f"{package}._public")
    assert spec is not None, "a lazy package has a module _public"
    assert spec.origin is not None, "which is a file"
    imports = (line for line in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body if isinstance(line, ast.ImportFrom))
    return {alias.asname or alias.name: (line.module, alias.name) for line in imports for alias in line.names}
