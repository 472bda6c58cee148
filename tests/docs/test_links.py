"""Links in all Markdown pages lead somewhere: files, headings, tests and settings."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`((?:tests|src)/[\w/]+\.py)::(\w+)`")


def tokens_of(path: Path) -> list[Token]:
    """Return the tokens of a page."""
    return MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))


def links_of(path: Path) -> Iterator[str]:
    """Yield the targets of all links and pictures of a page."""
    for token in tokens_of(path):
        for child in token.children or []:
            target = child.attrs.get("href") or child.attrs.get("src")
            if target:
                yield str(target)


def anchors_of(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    counts: Counter[str] = Counter()
    found = set()
    for token, after in pairwise(tokens_of(path)):
        if token.type != "heading_open":
            continue
        text = "".join(child.content for child in after.children or [])
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found.add(slug if not counts[slug] else f"{slug}-{counts[slug]}")
        counts[slug] += 1
    return found


def test_links_lead_to_a_file_and_a_heading_of_it(markdown: Path) -> None:
    """A relative link names a file that is there; a fragment names one of its headings."""
    for link in links_of(markdown):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (markdown.parent / name).resolve() if name else markdown
        assert target.exists(), f"{link}: there is no such file"
        if anchor:
            assert target.suffix == ".md", f"{link}: only pages have headings"
            assert anchor in anchors_of(target), f"{link}: has only {sorted(anchors_of(target))}"


def test_tests_that_pages_name_exist(markdown: Path) -> None:
    """Where a page says which test shows something, there is that test."""
    for file, name in TEST.findall(markdown.read_text(encoding="utf-8")):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"def {name}\b", text), f"{file} has no {name}"


def test_no_page_names_a_place_of_packages(markdown: Path) -> None:
    """Where packages come from is the reader's affair: no page names a registry's host."""
    assert not re.search(r"\b(pypi|pythonhosted|npmjs)\.org\b", markdown.read_text("utf-8"))


@pytest.mark.parametrize("title", ["## A b, `c`: d(e)!", "## Under_score - dash"])
def test_anchors_are_made_as_github_makes_them(tmp_path: Path, title: str) -> None:
    """Punctuation goes, spaces become hyphens, and case is lost."""
    page = tmp_path / "page.md"
    page.write_text(f"{title}\n\n{title}\n")
    (first, second) = sorted(anchors_of(page))
    assert first in {"a-b-c-de", "under_score---dash"}
    assert second == f"{first}-1"
