"""Links from the documents to the code. After # stands a name in the file, and after : the number of an equation there:

    ../src/throughtime/kernels/_plain.py#backward:7     the line of ``backward`` that is marked (7)
    ../csrc/cells/gru.hpp#backward                      the line that defines ``backward``

The tests resolve every one, and the site leads each to its line (``site_hooks.py``).
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[((?:`[^`]*`|\[[^\]]*\]|[^\[\]`])*)\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)")
CODE = re.compile(r"^(```|~~~).*?^\1[ \t]*$|(`+)(?!`).+?(?<!`)\2(?!`)", re.MULTILINE | re.DOTALL)


@final
@dataclass(frozen=True)
class Target:
    """Where a link leads: a path from the root of the repository, and what stands after its #."""

    path: Path
    fragment: str

    @property
    def outside(self) -> bool:
        """Whether it is no document of the site's own folder."""
        return self.path.parts[:1] != ("docs",)


def links(text: str) -> Iterator[re.Match[str]]:
    """The links in a document (groups: the words, the address), but for those in blocks and spans of code."""
    code = [block.span() for block in CODE.finditer(text)]
    for link in LINK.finditer(text):
        if not any(start <= link.start() and link.end() <= stop for start, stop in code):
            yield link


def target(document: Path, address: str) -> Target | None:
    """Where an address in ``document`` (from the root) leads; None for another site."""
    if re.match(r"[a-z]+:", address):
        return None
    path, _, fragment = address.partition("#")
    place = (ROOT / document.parent / path).resolve() if path else ROOT / document
    return Target(place.relative_to(ROOT), fragment)


def anchor(heading: str) -> str:
    """What GitHub and the site make of a heading's line."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.lstrip("#").strip()).lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def line(at: Target) -> int | None:
    """The line, from 1, that a link into code means; None if there is none."""
    name, _, equation = at.fragment.partition(":")
    source = _text(at.path).splitlines()
    first, last = _in_python(at.path, name) if at.path.suffix == ".py" else _in_cpp(source, name)
    if not equation or first is None:
        return first
    comment = re.compile(rf"(?:#|//).*\({re.escape(equation)}\)")
    return next((k for k in range(first, last + 1) if comment.search(source[k - 1])), None)


@cache
def _text(path: Path) -> str:
    return (ROOT / path).read_text("utf-8")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(_text(path))


def _in_python(path: Path, name: str) -> tuple[int | None, int]:
    """First and last line of a function, a class, a method (``Class.method``) or a value."""
    body: list[ast.stmt] = _tree(path).body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next((node for node in body if part in _defines(node)), None)
        body = getattr(found, "body", [])
    return (None, 0) if found is None else (found.lineno, found.end_lineno or found.lineno)


def _defines(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _in_cpp(source: list[str], name: str) -> tuple[int | None, int]:
    """First line that has the name and opens a bracket after it, and the last line of the brace that follows."""
    opens = re.compile(rf"^(?!\s*//).*\b{re.escape(name)}\b[^;]*[({{]")
    first = next((k for k, text in enumerate(source, 1) if opens.match(text)), None)
    if first is None:
        return None, 0
    last = next((k for k in range(first, len(source) + 1) if re.match(r"^\s{0,2}}", source[k - 1])), first)
    return first, last
