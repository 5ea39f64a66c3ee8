"""A page opened in headless Chromium: what it said, and what became of it."""

import json
import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_REPORT = "<script>addEventListener('load', () => setTimeout(async () => {{ document.documentElement.dataset.report = JSON.stringify(await (async () => {{ {} }})()); }}, 300))</script>"


def browse(page: Path, script: str = "", *, address: str = "", width: int = 1280) -> tuple[object, "Dom"]:
    """Open ``page``, run ``script`` in it, and give back what that returns and the document as it then is. Anything on the console fails.

    Without Chromium the test is skipped; where THROUGHTIME_REQUIRE_CHROMIUM is set, it fails.
    """
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("THROUGHTIME_REQUIRE_CHROMIUM") else pytest.skip)(
            "Chromium is not installed: the page cannot be opened"
        )
    probed = page.with_name(f"probed-{page.name}")
    probed.write_text(page.read_text("utf-8").replace("</body>", _REPORT.format(script or "return null") + "</body>"), "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom", "--enable-logging=stderr", "--v=0"]
    flags += [f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=3000"]
    done = subprocess.run([CHROMIUM, *flags, f"{probed.as_uri()}{address}"], capture_output=True, text=True, timeout=600, check=True)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not said, said
    dom = Dom(done.stdout)
    report = dom.first("html").attributes.get("data-report")
    assert report is not None, "the page did not come to its end"
    return json.loads(report), dom


class Element:
    """A tag, its attributes and the text inside."""

    def __init__(self, tag: str, attributes: dict[str, str], inside: "list[Element]") -> None:
        self.tag, self.attributes, self.inside, self.text = tag, attributes, inside, ""

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()


class Dom(HTMLParser):
    """A document as a flat list of its elements, each knowing those that it is inside of."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {k: v or "" for k, v in attrs}, list(self._open))
        self.elements.append(element)
        if tag not in ("meta", "br", "img", "link", "input"):
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, {k: v or "" for k, v in attrs}, list(self._open)))

    def handle_endtag(self, tag):
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data):
        for element in self._open:
            element.text += data

    def all(self, tag: str, within: str = "") -> list[Element]:
        """Every ``tag``, inside of the element with the id ``within``."""
        return [e for e in self.elements if e.tag == tag and (not within or any(o.attributes.get("id") == within for o in e.inside))]

    def first(self, tag: str, within: str = "") -> Element:
        return self.all(tag, within)[0]

    def by_id(self, id: str) -> Element:
        return next(e for e in self.elements if e.attributes.get("id") == id)
