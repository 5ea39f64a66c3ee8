"""What the trace of a cell depends on, as one text, so that a trace of an earlier process can be used again.

It is the byte code of the cell's methods and of every function that they reach, the values of its fields and of the globals and closures
that this code names, the versions of torch and Python, and the files that write kernels. Anything else, such as a global object of an
unknown kind, makes the identity unknown, and the cell is traced.
"""

import functools
import hashlib
import sys
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...cells import AbstractCell
from ._vectors import vectors_of

_KNOWN = ("torch", "math", "operator", "_operator", "builtins", "functools", "typing", "jaxtyping", "collections", "dataclasses", "abc")
_CALLED = ("__call__", "__getattr__", "__getattribute__", "__init_subclass__")  # of the names with underscores


class _Unknown(Exception):
    """Something that may change without a sign of it."""


def identity(cell: AbstractCell) -> str | None:
    """The text's sum; None where something is of an unknown kind."""
    vectors = [(v.name, v.learned, v.tensor.ndim, str(v.tensor.dtype)) for v in vectors_of(cell)]
    sizes = cell.gates, cell.states, cell.rh_gates, cell.late_gates
    setting = sys.version, torch.__version__, str(torch.get_default_dtype()), _own_files()
    try:
        told = "\0".join(_Teller({id(v.tensor) for v in vectors_of(cell)}).told(cell))
    except (_Unknown, RecursionError):
        return None
    return hashlib.sha256(repr((vectors, sizes, setting, told)).encode()).hexdigest()


@cache
def _own_files() -> str:
    """The sum of the Python files of the cells and of what writes kernels."""
    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), *(here.parent.parent / "cells").rglob("*.py")])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


class _Teller:
    def __init__(self, vectors: set[int]) -> None:
        self.vectors, self.seen = vectors, set[int]()

    def told(self, value: Any) -> Iterator[str]:
        """The parts of the text that belong to a value."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.device, type(...))):
            yield repr(value)
        elif id(value) in self.vectors:
            yield "vector"
        elif isinstance(value, (tuple, list)):
            yield f"{type(value).__name__} {len(value)}"
            for one in value:
                yield from self.told(one)
        elif isinstance(value, dict):
            yield from self.told([*value.items()])
        elif _is_known(value):
            yield f"{value.__module__ if hasattr(value, '__module__') else ''} {getattr(value, '__qualname__', value)}"
        elif id(value) in self.seen:
            yield "again"
        else:
            self.seen.add(id(value))
            yield from self._told_once(value)

    def _told_once(self, value: Any) -> Iterator[str]:
        if isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, (staticmethod, classmethod, types.MethodType)):
            yield from self.told(value.__func__)
        elif isinstance(value, property):
            yield from self.told(value.fget)
        elif isinstance(value, functools.partial):
            yield from self.told([value.func, value.args, value.keywords])
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, nn.Module):
            yield from self._module(value)
        elif isinstance(value, AbstractCell) or is_dataclass(value):
            yield from self.told([type(value), getattr(value, "__dict__", {})])
        else:
            raise _Unknown(type(value))

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        yield from self._code(function.__code__, function.__globals__)
        yield from self.told([function.__defaults__, function.__kwdefaults__])
        for cell in function.__closure__ or ():
            try:
                yield from self.told(cell.cell_contents)
            except ValueError:
                yield "empty"

    def _code(self, code: types.CodeType, names: dict[str, Any]) -> Iterator[str]:
        if "ops" in code.co_names:  # operators that somebody may have registered
            raise _Unknown("torch.ops")
        yield repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_flags))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield from self._code(constant, names)
            else:
                yield repr(constant)
        for name in code.co_names:
            if name in names:
                yield from self.told(names[name])

    def _class(self, kind: type) -> Iterator[str]:
        for base in kind.__mro__:
            if base is AbstractCell or _is_known(base):
                yield base.__qualname__
                continue
            for name, value in vars(base).items():
                if name in _CALLED or not name.startswith(("__", "_abc_")):
                    yield name
                    yield from self.told(value)

    def _module(self, module: nn.Module) -> Iterator[str]:
        values = dict(vars(module))
        if any(values.pop(name) for name in [*values] if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))):
            raise _Unknown("hooks")
        for name in ("training", "_non_persistent_buffers_set", "_is_full_backward_hook"):
            values.pop(name, None)
        if any(isinstance(v, Tensor) and id(v) not in self.vectors for v in values.values()):
            raise _Unknown("a tensor")
        yield from self.told([type(module), values])


def _is_known(value: Any) -> bool:
    """Whether a module, class or function belongs to torch or to Python."""
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] in _KNOWN
    if isinstance(value, (torch.layout, torch.memory_format)) or type(value).__module__.partition(".")[0] in ("typing", "jaxtyping"):
        return True
    if not isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)):
        return False
    module = getattr(value, "__module__", None)
    if module is None or isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType)):
        return (module or "torch").partition(".")[0] in _KNOWN
    return module.partition(".")[0] in _KNOWN and _found(module, value.__qualname__) is value  # a class may claim any module


def _found(module: str, name: str) -> Any:
    """What a module has under a name with dots."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
