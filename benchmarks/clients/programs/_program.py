"""What is said of a program: where it comes from, how it is run, and what of that is other than its authors'."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Program(NamedTuple):
    """A program of others, in the folder where its sources lie."""

    title: str
    repository: str  # on GitHub
    commit: str
    packages: tuple[str, ...]  # that it asks for, beside this project's
    differs: str  # what of its command or data is other than the authors'
    command: Callable[[Path, Path], list[str]]  # its script and the words after it, from the sources and an empty folder
    integration: Callable[[str], str] | None = None  # its script, with its loop over steps replaced


def with_method(script: str, name: str, ours: str) -> str:
    """A script whose function of that name has become ours; the rest of it stands as it was, line by line."""
    theirs = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.FunctionDef) and node.name == name]
    if len(theirs) != 1:
        raise SystemExit(f"the script defines {name} {len(theirs)} times; expected once. Use the commit that is named.")
    (function,), lines = theirs, script.splitlines(keepends=True)
    margin = " " * function.col_offset
    replaced = "".join(margin + line for line in ours.splitlines(keepends=True))
    return "".join([*lines[: function.lineno - 1], replaced, *lines[function.end_lineno :]])
