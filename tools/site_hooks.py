"""What MkDocs does not do by itself for `make docs`: pages of the examples and of files that are linked to, the reference, mathematics.

A link that leaves ``docs`` leads to a page with that file, at the line of the name that it gives (``document_links.py``). MathJax is copied
from a package, so that the site loads nothing from a network.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from importlib.metadata import files as files_of
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from document_links import ROOT, Target, line, links, target
from percent import page as percent_page

PROJECT = ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
ROOMS = ("data", "cells", "kernels", "nn", "models", "gradients", "flow", "auditing", "training", "sklearn")
FIGURES = ROOT / "docs" / "figures"
LANGUAGES = {".py": "python", ".hpp": "cpp", ".cpp": "cpp", ".toml": "toml", ".json": "json", ".md": "markdown"}
LARGEST = 100_000  # bytes of a file that is shown whole
LONG_NAME = re.compile(r"(?<=<code>)[^<\n]{10,}(?=</code>)")
HIDDEN = "---\nsearch:\n  exclude: true\nhide: [navigation, toc]\n---\n\n"
WIDE = "---\nhide: [toc]\n---\n\n"  # for lines of code
MATHJAX = r"""<script>MathJax = {tex: {inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]]},
options: {processHtmlClass: "arithmatex", ignoreHtmlClass: ".*"}}</script><script src="%s"></script>"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name in PROJECT:
        files.append(File.generated(config, f"project/{name}", content=(ROOT / name).read_text("utf-8")))
    files.append(File.generated(config, "reference/throughtime.md", content=_front_door()))
    for room in ROOMS:
        files.append(File.generated(config, f"reference/{room}.md", content=_reference(room)))
    files.append(File.generated(config, "reference/integrations.md", content=_doors()))
    for program in sorted((ROOT / "examples").glob("*.py")):
        files.append(File.generated(config, _page_of(program.relative_to(ROOT)), content=_example(program)))
    for path in sorted(path for path in set(_linked(files)) if not _is_example(path)):
        files.append(File.generated(config, _page_of(path), content=_shown(path)))
    files.append(File.generated(config, "mathjax.js", abs_src_path=str(_mathjax())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead every link that leaves the folder of documents to the page that is made of its file."""
    document = _document(page.file)
    if page.file.src_uri.startswith("source/"):
        return markdown
    for link in reversed(list(links(markdown))):
        words, address = link.groups()
        at = target(document, address)
        if at is not None and (at.outside or document.parts[0] != "docs"):
            markdown = markdown[: link.start()] + _led(words, at, page.file, files) + markdown[link.end() :]
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    html = LONG_NAME.sub(lambda name: name[0].replace("_", "_<wbr>").replace(".", ".<wbr>"), html)  # a table may break it there
    if 'class="arithmatex"' not in html:
        return html
    script = files.get_file_from_path("mathjax.js")
    assert script is not None, "on_files adds it"
    return html + MATHJAX % script.url_relative_to(page.file)


def _document(file: File) -> Path:
    """The file of the repository that a page of the site shows."""
    name = Path(file.src_uri)
    if name.parts[0] == "examples":
        return name.with_suffix(".py")
    return Path(name.name) if name.parts[0] == "project" else "docs" / name


def _linked(files: Files) -> Iterator[Path]:
    """Every file outside of the documents that one of them links to."""
    for file in files.documentation_pages():
        if not file.src_uri.startswith(("reference/", "source/")):
            for link in links(file.content_string):
                at = target(_document(file), link[2])
                if at is not None and at.outside and str(at.path) not in PROJECT:
                    yield at.path


def _is_example(path: Path) -> bool:
    return path.parent == Path("examples")


def _page_of(path: Path) -> str:
    return str(path.with_suffix(".md")) if _is_example(path) else f"source/{path}.md"


def _example(program: Path) -> str:
    """An example, its picture, and what `make figures` saw it print."""
    printed = FIGURES / f"{program.stem}.txt"
    said = printed.read_text("utf-8") if printed.exists() else ""
    return WIDE + percent_page(program, said).replace("](../docs/figures/", "](../figures/")


def _led(words: str, at: Target, here: File, files: Files) -> str:
    if not at.outside or str(at.path) in PROJECT:
        name = f"project/{at.path}" if at.outside else str(at.path.relative_to("docs"))
        address = os.path.relpath(name, Path(here.src_uri).parent)
        return f"[{words}]({address}{at.fragment and '#' + at.fragment})"
    page = files.get_file_from_path(_page_of(at.path))
    assert page is not None, "on_files adds a page for every link"
    address = page.url_relative_to(here)
    if at.fragment and at.path.suffix != ".md":
        number = line(at)
        if number is None:
            raise ValueError(f"{here.src_uri} links to {at.path}#{at.fragment}, which is not there. Mend the link.")
        address += f"#__codelineno-0-{number}"
    return f'<a href="{address}">{words}</a>'


def _shown(path: Path) -> str:
    """A file as a page, or the names in a folder."""
    place = ROOT / path
    heading = f"{HIDDEN}# {path.name}\n\n`{path}`\n\n"
    if place.is_dir():
        return heading + "\n".join(f"* `{inside.name}`" for inside in sorted(place.iterdir()) if inside.name != "__pycache__")
    if place.stat().st_size > LARGEST:
        return heading + f"{place.stat().st_size} bytes, which are in the repository."
    text = place.read_text("utf-8")
    fence = "`" * max(4, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f'{heading}{fence} {{.{LANGUAGES.get(path.suffix, "text")} linenums="1"}}\n{text}\n{fence}\n'


def _public(package: Path) -> tuple[str, list[ast.ImportFrom]]:
    """The module that lists a package's public names, and its imports."""
    lists = package / "_public.py" if (package / "_public.py").exists() else package / "__init__.py"
    tree = ast.parse(lists.read_text("utf-8"))
    return lists.stem, [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level == 1]


def _said_first(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""


def _reference(room: str) -> str:
    """A page of mkdocstrings with every public name of a room, in the room's own order."""
    package = ROOT / "src" / "throughtime" / room
    module, imports = _public(package)
    place = f"throughtime.{room}" + (f".{module}" if module == "_public" else "")
    names = [alias.asname or alias.name for node in imports if node.module is not None for alias in node.names]
    entries = (f"::: {place}.{name}\n    options:\n      heading: {name}\n      toc_label: {name}\n" for name in names)
    return f"# throughtime.{room}\n\n{_said_first(package)}\n\n" + "\n".join(entries)


def _doors() -> str:
    """A page with the integrations, which are modules that are imported by name alone."""
    package = ROOT / "src" / "throughtime" / "integrations"
    names = sorted(place.stem for place in package.glob("*.py") if not place.stem.startswith("_"))
    entries = "\n".join(f"::: throughtime.integrations.{name}\n" for name in names)
    return f"# throughtime.integrations\n\n{_said_first(package)}\n\n{entries}"


def _front_door() -> str:
    """What `import throughtime as tt` has, and the page on which each is explained."""
    _, imports = _public(ROOT / "src" / "throughtime")
    rows = [(node.module, alias.name) for node in imports if node.module is not None for alias in node.names]
    told = "\n".join(
        f"| `tt.{name}` | " + (f"[throughtime.{module}]({module}.md) |" if module in ROOMS else "an error with got, expected, remedy |")
        for module, name in rows
    )
    return f"# throughtime\n\n{_said_first(ROOT / 'src' / 'throughtime')}\n\n| name | explained in |\n|---|---|\n{told}\n"


def _mathjax() -> Path:
    """MathJax in one file, from the package sphinx-mathjax-offline."""
    return next(Path(str(file.locate())) for file in files_of("sphinx-mathjax-offline") or () if file.name == "tex-svg.js")
