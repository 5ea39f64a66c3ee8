"""Cells of one's own as kernels: read, written, compiled, loaded, each once.

What was found out about a cell is remembered by its value (a frozen dataclass) or by the object with its plain attributes (a module).
"""

import hashlib
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from ..._check import InputError, instance
from ..._torch_private import constant_when_compiled
from ...cells import AbstractCell
from .. import _table as table
from . import _cache, _compiler
from ._identity import identity
from ._refused import Refused
from ._step import read
from ._vectors import tensor_of, vectors_of
from ._write import GATES, MOST_STATES, Source, written

try:
    import throughtime._kernels as _kernels
except ImportError:
    _kernels: Any = None

_MOST = 512  # cells that are remembered
_lock = threading.RLock()


@final
class Own(NamedTuple):
    """A cell that has been written as a kernel."""

    cell: AbstractCell  # kept, so that its identity is not given to another
    source: Source
    names: tuple[str, ...]  # of its own vectors, learned first

    @property
    def name(self) -> str:
        """Its name in the schema of ``torch.ops.throughtime``."""
        return "own_" + hashlib.sha256(f"{self.source.text}{id(self.cell) if self.names else ''}".encode()).hexdigest()[:16]


class _Quick(NamedTuple):
    """What was found out about an object, while its plain values are as they were; None where they cannot change."""

    cell: AbstractCell  # kept, so that its identity is not given to another
    plain: object
    found: Own | Refused


_quick: OrderedDict[int, _Quick] = OrderedDict()  # by identity
_found: OrderedDict[object, tuple[AbstractCell, Own | Refused]] = OrderedDict()  # by value
_loaded: dict[tuple[str, torch.dtype, str], int | Refused] = {}
BY_NAME: dict[str, Own] = {}


def own(cell: AbstractCell) -> Own | Refused:
    """The cell as a kernel, or why there is none.

    Raises:
        InputError: ``step`` is no step.
    """
    quick = _quick.get(id(cell))
    if quick is not None and quick.cell is cell and (quick.plain is None or quick.plain == _plain(cell)):
        return quick.found
    with _lock:
        key = _key(cell)
        _, found = _found.get(key, (cell, None))
        if found is None:
            found = _elsewhere(lambda: _find(cell))
            _remember(_found, key, (cell, found))
        if isinstance(found, Own):
            BY_NAME[found.name] = found
        _remember(_quick, id(cell), _Quick(cell, None if _is_frozen(cell) else _plain(cell), found))
        return found


def _remember(table: OrderedDict[Any, Any], key: object, value: object) -> None:
    table[key] = value
    while len(table) > _MOST:
        table.popitem(last=False)


@constant_when_compiled
def why_not(cell: AbstractCell, dtype: torch.dtype) -> str:
    """Why a cell has no kernel of its own for ``dtype``; empty if it has, and it is then compiled and loaded."""
    found = own(cell)
    found = found if isinstance(found, Refused) else number(found, dtype)
    return str(found) if isinstance(found, Refused) else ""


@constant_when_compiled
def name(cell: AbstractCell) -> str:
    """The name of a cell that has a kernel of its own, in the schema of ``torch.ops.throughtime``."""
    return known(cell).name


def compile_cell(cell: AbstractCell, dtype: torch.dtype = torch.float32) -> None:
    """Compile the kernel of a cell of your own now, instead of at its first use.

    Nothing is done for a cell that comes with the package and has a kernel there. A number that ``step`` takes from its cell is looked at
    each time; one that it takes from elsewhere, such as a global, is written into the kernel as it is now.

    Args:
        cell: the step.
        dtype: of the inputs that will come, ``torch.float32`` or ``torch.float64``.

    Raises:
        InputError: ``step`` is no step: it returns something else, draws random numbers, changes its input, has no gradient.
        NotImplementedError: no kernel can be written for it, or there is no compiler; the message says which, and the plain loop serves.

    >>> from throughtime.cells import Elman
    >>> compile_cell(Elman(torch.sin))
    >>> compile_cell(Elman(lambda a: torch.softmax(a, -1)))
    Traceback (most recent call last):
    NotImplementedError: softmax in step of Elman (...) mixes units, and a kernel computes each unit by itself.
    """
    instance("cell", cell, AbstractCell, "an instance such as cells.Elman(torch.sin)")
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"dtype is {dtype!r}; expected torch.float32 or torch.float64.")
    if _kernels is None:
        raise NotImplementedError("the extension is not there; reinstall with a C++20 compiler at hand to have it.")
    if table.known(cell) is None and (why := why_not(cell, dtype)):
        raise NotImplementedError(f"{why}.")


@constant_when_compiled
def has_vectors(cell: AbstractCell) -> bool:
    """Whether a cell has vectors of its own."""
    return bool(vectors_of(cell))


def known(cell: AbstractCell) -> Own:
    """A cell that has a kernel of its own, as ``why_not`` found it: it is not looked at again."""
    quick = _quick.get(id(cell))
    found = quick.found if quick is not None and quick.cell is cell else own(cell)
    assert isinstance(found, Own), "callers have asked why_not()"
    return found


def _elsewhere(work: Callable[[], Own | Refused]) -> Own | Refused:
    """The result of ``work`` in another thread, where no mode or transform of torch is active, whatever the caller is in."""
    done: list[Own | Refused | BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # it is raised again, in the caller's thread
            done.append(error)

    thread = threading.Thread(target=run, name="throughtime-trace")
    thread.start()
    thread.join()
    if isinstance(done[0], BaseException) and not isinstance(done[0], Refused):
        raise done[0]
    return done[0]


def _key(cell: AbstractCell) -> object:
    """Equal for cells that compute the same."""
    if _is_frozen(cell):
        try:
            hash(cell)
        except TypeError:
            return id(cell), repr(cell)
        return type(cell), cell
    return id(cell), _plain(cell)


def _is_frozen(cell: AbstractCell) -> bool:
    """Whether nothing of a cell can change: a frozen dataclass without tensors."""
    kind = type(cell)
    frozen = is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return frozen and not any(isinstance(v, Tensor) for v in getattr(cell, "__dict__", {}).values())


def _plain(cell: AbstractCell) -> object:
    """What may change in a cell and is written into its kernel: its numbers, and which of its vectors are learned."""
    modules = list(cell.modules()) if isinstance(cell, nn.Module) and vars(cell)["_modules"] else [cell]
    return tuple(_plain_values(getattr(module, "__dict__", {})) for module in modules)


def _plain_values(values: dict[str, Any]) -> tuple[Any, ...]:
    own = [v for k, v in values.items() if k not in _OF_EVERY_MODULE]
    found = [v if type(v) in _PLAIN else v.requires_grad for v in own if type(v) in _PLAIN or isinstance(v, Tensor)]
    return (*found, *(p is not None and p.requires_grad for p in values.get("_parameters", {}).values()))


_PLAIN = (bool, int, float, str)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))  # none of them goes into a kernel but the parameters


def _find(cell: AbstractCell) -> Own | Refused:
    try:
        late, early = cell.late_gates, cell.rh_gates - cell.late_gates
        if cell.gates not in GATES or {early, late} - {0, *GATES} or cell.states > MOST_STATES:
            recurrent = f", {early} rows of R and {late} of late gates" if (early, late) != (cell.gates, 0) else ""
            raise Refused(
                f"{type(cell).__name__} has {cell.gates} gates{recurrent} and {cell.states} states; kernels can be written for "
                f"{', '.join(map(str, GATES))} gates of each kind and at most {MOST_STATES} states"
            )
        return Own(cell, _source(cell), tuple(v.name for v in vectors_of(cell)))
    except Refused as why:
        return why.with_traceback(None)


def _source(cell: AbstractCell) -> Source:
    """The cell in C++: of an earlier process if nothing that it depends on has changed, for torch takes long to trace."""
    key = identity(cell)
    if key is not None and (kept := _cache.read(key)) is not None:
        return Source(*json.loads(kept))
    source = written(read(cell))
    if key is not None:
        _cache.keep(key, json.dumps(source).encode())
    return source


def number(cell: Own, dtype: torch.dtype, arch: str | None = None) -> int | Refused:
    """The extension's number for a cell, which is compiled and loaded where that has not been done; or why it cannot be."""
    name = str(arch or _architecture())
    key = (cell.source.text, dtype, name)
    found = _loaded.get(key)
    if found is None:
        with _lock:
            found = _loaded.get(key)
            if found is None:
                try:
                    found = _load(cell, dtype, name)
                except Refused as why:
                    found = why.with_traceback(None)
                _loaded[key] = found
    return found


@cache
def _architecture() -> str:
    return _kernels.architecture()


def _load(cell: Own, dtype: torch.dtype, arch: str) -> int:
    headers = Path(_kernels.__file__).with_name("_headers")
    element = {torch.float32: "float", torch.float64: "double"}[dtype]
    text = (
        f'#define ARCH {_compiler.tag(arch)}\n#define THROUGHTIME_HEADERS "{_kernels.headers()}"\n#include "cell_export.hpp"\n'
        f'{cell.source.text}THROUGHTIME_EXPORT(OwnCell, {element}, "{arch}")\n'
    )
    words = _compiler.command(arch, headers)
    key = hashlib.sha256("\0".join([text, *words, _compiler.identity(words)]).encode()).hexdigest()
    if (path := _cache.find(key)) is not None:
        try:
            return _kernels.load_cell(str(path))
        except ValueError:
            path.unlink(missing_ok=True)

    def make(result: Path) -> None:
        if not headers.is_dir():
            raise Refused(f"the kernels' headers are not in {headers}; reinstall throughtime")
        source = result.with_suffix(".cpp")
        source.write_text(text)
        _compiler.compile_file(source, result, words)

    _say(f"compiling {type(cell.cell).__name__} for {arch}, {str(dtype).removeprefix('torch.')}; it is kept for the next time")
    with _cache.made(key, make, _say) as path:
        try:
            return _kernels.load_cell(str(path))
        except ValueError as error:
            raise Refused(str(error).rstrip(".")) from None


def _say(sentence: str) -> None:
    sys.stderr.write(f"throughtime: {sentence}\n")
    sys.stderr.flush()


def learned_vectors(cell: AbstractCell) -> list[Tensor]:
    """The vectors of a cell that are learned."""
    return [v.tensor for v in vectors_of(cell) if v.learned]


def own_vectors(cell: AbstractCell, names: tuple[str, ...], H: int, like: Tensor) -> Tensor | None:
    """A cell's own vectors as (P, H), in the type of ``like``.

    Raises:
        InputError: one of another length.
    """
    if not names:
        return None
    tensors = [tensor_of(cell, name) for name in names]
    for name, tensor in zip(names, tensors, strict=True):
        if tensor.numel() not in (1, H):
            raise InputError(
                f"{name} of {type(cell).__name__} has {tensor.numel()} numbers and the layer {H} hidden units; expected as many, or one."
            )
    whole = [t if t.ndim == 1 and t.dtype == like.dtype and len(t) == H else t.to(like.dtype).expand(H) for t in tensors]
    return torch.stack(whole).detach()


def known_learned(cell: AbstractCell) -> list[Tensor]:
    """The learned vectors of a cell that has a kernel of its own."""
    found = known(cell)
    return [tensor_of(cell, name) for name in found.names[: found.source.learned]]
