"""The cells of a program in the percent format of jupytext, and the program as a page: the examples, for the site and its tests."""

import re
from collections.abc import Iterator
from pathlib import Path

CELL = re.compile(r"^# %%( \[markdown\])?[ \t]*\n(.*?)(?=^# %%|\Z)", re.MULTILINE | re.DOTALL)


def cells(text: str) -> Iterator[tuple[bool, str]]:
    """Whether a cell is Markdown, and its text without the marks of comments."""
    for cell in CELL.finditer(text):
        told = cell[1] is not None
        yield told, (re.sub(r"^# ?", "", cell[2], flags=re.MULTILINE) if told else cell[2]).strip("\n")


def page(program: Path, printed: str = "") -> str:
    """The program as Markdown, and at its end what it printed."""
    shown = [text if told else f"```python\n{text}\n```" for told, text in cells(program.read_text("utf-8")) if text]
    end = [f"## What it prints\n\n```text\n{printed.rstrip()}\n```"] if printed else []
    where = f"The program is `{program.parent.name}/{program.name}`: run it with python, or open it as a notebook (jupytext)."
    return "\n\n".join([*shown, *end, where]) + "\n"


def words(program: Path) -> str:
    """Its Markdown alone."""
    return "\n\n".join(text for told, text in cells(program.read_text("utf-8")) if told)
