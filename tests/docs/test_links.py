"""Every link of the documents and of the examples leads somewhere: to a file, to a name in it, to the line with an equation's number."""

import re
import sys
from pathlib import Path

import pytest
from _documents import DOCUMENTS, ROOT, name

sys.path.insert(0, str(ROOT / "tools"))
import document_links
import percent

EXAMPLES = sorted(ROOT.glob("examples/*.py"))


def headings(document: Path) -> set[str]:
    """The anchors that GitHub and the site give to the headings of a document."""
    text = document_links.CODE.sub(lambda code: code[0] if code[2] else "", document.read_text("utf-8"))
    return {document_links.anchor(line) for line in text.splitlines() if line.startswith("#")}


def words(document: Path) -> str:
    return percent.words(document) if document.suffix == ".py" else document.read_text("utf-8")


def faults(document: Path) -> list[str]:
    """The links and pictures that lead nowhere."""
    text = words(document)
    addresses = [*(link[2] for link in document_links.links(text)), *re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)]
    return [address for address in addresses if not leads(document.relative_to(ROOT), address)]


def leads(document: Path, address: str) -> bool:
    at = document_links.target(document, address)
    if at is None:
        return True
    place = ROOT / at.path
    if not place.exists():
        return False
    if not at.fragment:
        return True
    return at.fragment in headings(place) if at.path.suffix == ".md" else document_links.line(at) is not None


@pytest.mark.parametrize("document", [*DOCUMENTS, *EXAMPLES], ids=name)
def test_every_link_leads_somewhere(document):
    assert faults(document) == []


@pytest.mark.parametrize(
    "address",
    [
        "nowhere.md",
        "mathematics.md#10-no-such-heading",
        "../src/throughtime/kernels/_plain.py#no_such_function",
        "../src/throughtime/kernels/_plain.py#forward:7",  # (7) is in another function
        "../csrc/cells/gru.hpp#no_such_function",
    ],
)
def test_a_link_that_leads_nowhere_is_seen(address):
    assert not leads(Path("docs/mathematics.md"), address)


def test_a_link_means_the_line_that_computes():
    at = document_links.target(Path("docs/mathematics.md"), "../src/throughtime/kernels/_plain.py#backward:7")
    assert at is not None
    number = document_links.line(at)
    assert number is not None
    assert "parameters.R" in (ROOT / at.path).read_text().splitlines()[number - 1]
