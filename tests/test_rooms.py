"""The walk of the house, seen by its imports: rooms import backwards only, no files import in a circle, and what is private stays so."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

import throughtime

HOUSE = Path(throughtime.__file__).parent
WALK = ["data", "cells", "kernels", "nn", "models", "gradients", "flow", "auditing", "training", "sklearn", "integrations", "bench", "cli"]
SHARED = set("_shapes _check _errors _numbers _bar _console _lazy _processes _torch_private _user_cache _version _kernels".split())
FILES = {".".join((HOUSE.name, *f.relative_to(HOUSE).with_suffix("").parts)).removesuffix(".__init__"): f for f in HOUSE.rglob("*.py")}


@dataclass(frozen=True)
class Import:
    """One name that a file imports: ``from source import name``, or ``import source``."""

    file: str
    line: int
    source: str  # absolute
    name: str | None = None

    @property
    def target(self) -> str:
        """The module that is meant: a name may be a module of a package."""
        inner = f"{self.source}.{self.name}"
        return inner if inner in FILES or inner == "throughtime._kernels" else self.source

    def __str__(self) -> str:
        return f"{self.file} → {self.target}"


def imports_of(file: str, text: str, *, package: bool = False) -> Iterator[Import]:
    """Every import of a file's text: at the top, inside functions and classes, and for type checkers alone."""
    inside = file.split(".") if package else file.split(".")[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = inside[: len(inside) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            yield from (Import(file, node.lineno, source, alias.name) for alias in node.names)


def room_of(module: str) -> str:
    """The room, or the file beside the rooms; empty for the front door."""
    return ([*module.split("."), ""])[1]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


IMPORTS = [i for name, file in FILES.items() for i in imports_of(name, file.read_text(), package=file.name == "__init__.py")]
INSIDE = [i for i in IMPORTS if i.target.split(".")[0] == "throughtime"]


def test_every_form_of_import_is_seen():
    text = """
import throughtime.cells, torch.nn as nn
from .. import kernels, nn as layers
from . import _plain
def f():
    from ...gradients._base import AbstractGradient
class C:
    from throughtime.flow import gradient_flow
if TYPE_CHECKING:
    from ..training import Watch
"""
    seen = sorted((i.line, i.target) for i in imports_of("throughtime.kernels.sub._here", text))
    kernels = "throughtime.kernels"
    assert seen == [
        (2, "throughtime.cells"), (2, "torch.nn"), (3, kernels), (3, kernels), (4, f"{kernels}.sub"),
        (6, "throughtime.gradients._base"), (8, "throughtime.flow"), (10, f"{kernels}.training"),
    ]  # fmt: skip
    (one, two) = imports_of("throughtime.kernels", "from ._plain import forward\nfrom .. import _check", package=True)
    assert (one.target, two.target) == ("throughtime.kernels._plain", "throughtime._check")


def test_rooms_import_only_backwards():
    for i in INSIDE:
        room, target = room_of(i.file), room_of(i.target)
        if room not in WALK or target in {room, "_kernels", *SHARED}:
            continue
        assert target in WALK, f"{i}, line {i.line}: a room imports rooms, not the front door or {target!r}"
        assert room != "data", f"{i}, line {i.line}: data imports no other room"
        assert WALK.index(target) < WALK.index(room), f"{i}, line {i.line}: {target} comes after {room}"


def test_the_extension_has_one_importer():
    assert {room_of(i.file) for i in INSIDE if i.target == "throughtime._kernels"} == {"kernels"}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of files each of which reaches each other by imports."""
    reached = {start: _reached(graph, start) for start in graph}
    found = {frozenset(b for b in reached[a] if a in reached.get(b, ())) for a in graph if a in reached[a]}
    return sorted(map(set, found), key=min)


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen, waiting = set(), [start]
    while waiting:
        waiting += (new := graph.get(waiting.pop(), set()) - seen)
        seen |= new
    return seen


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}, "e": {"e"}}) == [{"b", "c"}, {"e"}]


def test_no_files_import_in_a_circle():
    graph = {name: {i.target for i in INSIDE if i.file == name} for name in FILES}
    assert not circles(graph)


def test_no_room_imports_what_is_private_to_another():
    found = {
        str(i)
        for i in INSIDE
        if room_of(i.file) in WALK and room_of(i.target) in WALK and room_of(i.file) != room_of(i.target)
        if any(map(is_private, (*i.target.split(".")[2:], i.name or "")))
    }
    assert not found


OF_MODULES = {name for name in dir(torch.nn.LSTM(1, 1)) if is_private(name)}
OF_TUPLES = {"_fields", "_asdict", "_replace", "_make"}  # public, under these names so as not to meet a field's


def private_places(file: str, text: str) -> Iterator[str]:
    """Private names of torch: imported, as attributes of a thing that is not our own, or of the module that a class of ours is."""
    for i in imports_of(file, text):
        if i.source.split(".")[0] == "torch" and any(map(is_private, (*i.source.split("."), i.name or ""))):
            yield f"{file}, line {i.line}: {i.source}.{i.name}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            own = ast.unparse(node.value) in ("self", "cls", "os", "super()")
            if node.attr in OF_MODULES if own else node.attr not in OF_TUPLES:
                yield f"{file}, line {node.lineno}: {ast.unparse(node)}"


def test_every_private_place_is_seen():
    text = "from torch import _VF\nfrom torch.utils._pytree import tree_flatten\ntorch._C.f()\nself._flat_weights\nself._own\nP._fields\nlayer._parameters"
    found = {place.split(": ")[1] for place in private_places("a.b", text)}
    assert found == {"torch._VF", "torch.utils._pytree.tree_flatten", "torch._C", "self._flat_weights", "layer._parameters"}


def test_torchs_private_places_are_used_in_one_file():
    found = {name: list(private_places(name, f.read_text())) for name, f in FILES.items() if f.stem != "_torch_private"}
    found = {name: places for name, places in found.items() if places}
    assert not found
