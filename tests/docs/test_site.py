"""The site can be built, and what is built holds together."""

import html.parser
import importlib
import posixpath
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

ROOT = Path(__file__).parents[2]

# Modules whose names users write.
PUBLIC = [
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
    "cachestream.metrics",
    "cachestream.settings",
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does: a dangling reference is an error."""
    place = tmp_path_factory.mktemp("site")
    flags = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(place / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *flags, str(ROOT / "docs"), str(place / "html")],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return place / "html"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_is_whole(site: Path) -> None:
    """Every link of every built page leads to a file and an anchor, and no markup is left raw."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    assert site.resolve() / "index.html" in pages
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
    assert wrong == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_in_the_reference(site: Path, name: str) -> None:
    """What a public module has in its `__all__` is described under a public name."""
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", posixpath.join)
    known = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    module = importlib.import_module(name)
    missing = []
    for each in module.__all__:
        thing = getattr(module, each)
        home = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
        if not {f"{name}.{each}", home} & known:
            missing.append(each)
    assert missing == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_site_needs_nothing_from_elsewhere(site: Path) -> None:
    """No page loads a script, a style or a font from another host."""
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for tag in ("<script", "<link", "<img"):
            for piece in text.split(tag)[1:]:
                head = piece.partition(">")[0]
                assert "//" not in head.replace("https://example.com", ""), f"{path.name}: {head}"
