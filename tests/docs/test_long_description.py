"""What a package index shows of README.md: the words, and no link that leads nowhere from there."""

import re
import tomllib

from _documents import ROOT

LINK = re.compile(r"\]\((?!https?:)([^)]*)\)")


def shown() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        rules = tomllib.load(file)["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]
    text = (ROOT / "README.md").read_text("utf-8")
    for rule in rules:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    return text


def test_no_link_leads_into_the_repository():
    assert LINK.findall((ROOT / "README.md").read_text("utf-8")), "there are links that must go"
    assert LINK.findall(shown()) == []


def test_words_stay():
    text = shown()
    assert "![" not in text
    assert "The gradient of a small character model" not in text, "of a picture that is not shown"
    for words in ("from a shell", "ARCHITECTURE.md draws the house", "| 1.886 |", "make demo"):
        assert words in text
