"""The site can be built, and what is built holds together."""

import html.parser
import importlib
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).parents[2]

# Modules whose names users write.
PUBLIC = [
    "cachestream",
    "cachestream.abc",
    "cachestream.backends",
    "cachestream.blocking",
    "cachestream.core.fields",
    "cachestream.core.ranges",
    "cachestream.core.representation",
    "cachestream.core.spans",
    "cachestream.core.validators",
    "cachestream.errors",
    "cachestream.events",
    "cachestream.frontends",
    "cachestream.fsspec",
    "cachestream.integrations.jupyter",
    "cachestream.integrations.mpv",
    "cachestream.testing",
    "cachestream.testing.origin",
    "cachestream.testing.stores",
    "cachestream.testing.transports",
    "cachestream.transports",
]


class Page(html.parser.HTMLParser):
    """What a built page has: anchors, links, and problems that a reader would see."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.problems: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {values[name] or "" for name in ("id", "name") if name in values}
        for name in ("href", "src"):
            if values.get(name):
                self.links.add(str(values[name]))
        if {"system-message", "problematic"} & set((values.get("class") or "").split()):
            self.problems.append(f"a {tag} of class {values['class']}")

    def handle_data(self, data: str) -> None:
        if "{py:" in data or "{term}" in data or "```" in data:
            self.problems.append(data.strip())


def build(place: Path) -> Path:
    """Build the site as `make docs` does: a dangling reference is an error."""
    flags = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(place / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags, str(ROOT / "docs"), str(place / "html")],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    return place / "html"


def broken_links(site: Path) -> list[str]:
    """Return links that lead to no file or anchor, and markup that was left raw."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    wrong = [f"{path.name}: {problem}" for path, page in pages.items() for problem in page.problems]
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{path.name}: {link} leads nowhere")
            elif target in pages and unquote(parts.fragment) not in {"", *pages[target].anchors}:
                wrong.append(f"{path.name}: {link} has no such anchor")
    return wrong


def missing_names(site: Path) -> list[str]:
    """Return what public modules have in `__all__` and the reference does not describe."""
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", posixpath.join)
    names = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    known = {name.rpartition(".")[2] for name in names if name.startswith("cachestream.")}
    return [
        f"{module}.{name} is not in the reference"
        for module in PUBLIC
        for name in importlib.import_module(module).__all__
        if name not in known and not name.startswith("__")
    ]


def foreign_loads(site: Path) -> list[str]:
    """Return scripts, styles, fonts and pictures that pages load from other hosts."""
    pattern = re.compile(r"<(?:script|link|img)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    return [
        f"{path.name}: {found}"
        for path in site.rglob("*.html")
        for found in pattern.findall(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_site_is_whole(tmp_path: Path) -> None:
    """It builds without a warning, all links lead somewhere, every public name is described."""
    site = build(tmp_path)
    assert (site / "index.html").exists()
    assert broken_links(site) + missing_names(site) + foreign_loads(site) == []
