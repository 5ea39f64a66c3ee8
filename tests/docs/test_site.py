"""The site as it is built: every address in it leads somewhere in it, nothing is loaded from elsewhere, and no page scrolls sideways.

Needs MkDocs, which `make docs` installs into build/site-environment; the widths need Chromium.
"""

import functools
import http.server
import json
import os
import re
import subprocess
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from _chromium import CHROMIUM, Dom
from _documents import ROOT

MKDOCS = ROOT / "build" / "site-environment" / "bin" / "mkdocs"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not MKDOCS.exists(), reason="MkDocs is not installed: make docs does it")]
PROBE = """<body><script>
const measure = async page => {
  const frame = document.createElement("iframe")
  frame.style.cssText = "width: %dpx; height: 900px; border: 0"
  frame.src = page
  document.body.append(frame)
  await new Promise(loaded => (frame.onload = loaded))
  await new Promise(drawn => setTimeout(drawn, 500))
  const root = frame.contentDocument.documentElement
  const found = root.scrollWidth > root.clientWidth ? [page] : []
  frame.remove()
  return found
}
(async () => {
  let wide = []
  for (const page of %s) wide = wide.concat(await measure(page))
  document.documentElement.dataset.report = JSON.stringify(wide)
})()
</script></body>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("site")
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([MKDOCS, "build", "--quiet", "--site-dir", place], cwd=ROOT, check=True, env=environment)
    return place


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Dom]:
    return {page: Dom(page.read_text("utf-8")) for page in site.rglob("*.html") if page.name != "404.html"}


def test_every_address_leads_somewhere(site, pages):
    ids = {
        page: {e.attributes[name] for e in dom.elements for name in ("id", "name") if name in e.attributes} for page, dom in pages.items()
    }
    lost = [
        f"{page.relative_to(site)}: {address}"
        for page, dom in pages.items()
        for address in (e.attributes.get("href") or e.attributes.get("src") for e in dom.elements)
        if address and not leads(page, address, ids)
    ]
    assert lost == []


def leads(page: Path, address: str, ids: dict[Path, set[str]]) -> bool:
    path, fragment = urldefrag(address)
    if re.match(r"[a-z]+:", path):
        return True
    place = (page.parent / unquote(path)).resolve() if path else page
    return place.exists() and (not fragment or place not in ids or unquote(fragment) in ids[place])


def test_nothing_is_loaded_from_elsewhere(pages):
    loading = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
    loads = [e.attributes.get(loading[e.tag]) for dom in pages.values() for e in dom.elements if e.tag in loading]
    assert [address for address in loads if address and re.match(r"(https?:)?//", address)] == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_scrolls_sideways(site, pages, width, tmp_path):
    assert CHROMIUM is not None
    shown = [str(page.relative_to(site)) for page in sorted(pages) if "source" not in page.relative_to(site).parts]
    (site / "probe.html").write_text(PROBE % (width, json.dumps(shown)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1400,1000",
            "--virtual-time-budget=120000",
        ]
        command = [CHROMIUM, *flags, f"--user-data-dir={tmp_path}", "--dump-dom", f"http://127.0.0.1:{server.server_port}/probe.html"]
        dom = Dom(subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout)
        server.shutdown()
    assert json.loads(dom.first("html").attributes["data-report"]) == []


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
