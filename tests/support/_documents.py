"""The documents: their blocks of code, and which of these are to run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^(?P<note><!-- not run: [^\n]* -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its first line."""

    language: str
    text: str
    line: int
    runs: bool


def blocks(document: Path, language: str) -> Iterator[Block]:
    """The blocks of one language. ``<!-- not run: why -->`` on the line before one says that it cannot run by itself."""
    text = document.read_text("utf-8")
    for found in BLOCK.finditer(text):
        if found["language"] == language:
            yield Block(language, found["text"], text.count("\n", 0, found.start("text")) + 1, found["note"] is None)


def with_blocks(language: str) -> list[Path]:
    """The documents that have a block of this language."""
    return [document for document in DOCUMENTS if any(blocks(document, language))]


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))
