"""The docs say what is so: generated pages are current, names exist, examples compile."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cachestream import CacheManager, CacheStream, errors
from cachestream.cli import program
from cachestream.cli.docs import PAGES
from cachestream.settings import describe
from cachestream.testing.origin import OriginThread, pattern

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES_BY_HAND = sorted(
    path
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "changes").glob("*.md")]
    if path.name not in PAGES
)
FROM = (DOCS / "reference" / "from-http-cache-stream.md").read_text()


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


# Everything that http_cache_stream 0.1.0 can be told, as it spells it.
OPTIONS = words(
    """
    cacheDirectory customHttpClient httpClient cacheFileResolver requestHeaders responseHeaders
    useGlobalHeaders copyCachedResponseHeaders validateOutdatedCache rangeRequestSplitThreshold
    maxBufferSize minChunkSize savePartialCache saveMetadata saveAllHeaders readTimeout
    requestTimeout lifecycleConfig onCacheDone
    """
)
MEMBERS = words(
    """
    init instance instanceOrNull isInitialized getCacheUrl createStream preCacheUrl
    getExistingStream getCacheMetadata getCacheFiles cacheMetadataList inactiveCacheFiles
    deleteCache createStreamConfig onStreamCreated config cacheDir allStreams isDisposed dispose
    sourceUrl cacheUrl files cacheFile metadata headers request head download downloadHeaders
    validateCache resetCache cacheState cacheStateStream progress progressStream cachePosition
    lastErrorOrNull isDownloading future retain release isRetained retainCount
    """
)
TYPES = words(
    """
    CacheState CacheFiles CacheFileType CacheMetadata CachedResponseHeaders StreamResponse HttpRange
    IntRange DownloadStoppedException RequestTimedOutException ReadTimedOutException
    HttpStatusCodeException CacheResetException CacheSourceChangedException HttpRangeException
    InvalidCacheSizeException StreamResponseCancelledException
    StreamResponseExceededMaxBufferSizeException StreamDisposedException ManagerDisposedException
    """
)


def table(title: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = FROM.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def blocks(language: str) -> list[object]:
    """Return the code blocks of one language in all pages, named by their place."""
    return list(_blocks(language))


def _blocks(language: str) -> Iterator[object]:
    for path in PAGES_BY_HAND:
        found = re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)
        for number, code in enumerate(found):
            yield pytest.param(code, id=f"{path.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_pages_are_current(name: str) -> None:
    """The page in docs/reference is what the code makes now; `make docs` writes it anew."""
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == PAGES[name]()


def test_every_setting_is_on_its_page() -> None:
    """The settings page has one row for each setting."""
    page = PAGES["settings.md"]()
    for row in describe():
        assert page.count(f"\n| `{row['name']}` |") == 1


def test_every_command_is_on_its_page() -> None:
    """The command line page has a section for each command."""
    page = PAGES["cli.md"]()
    for name in program.commands:
        assert f"\n### {name}\n" in page


def test_the_tree_of_errors_is_the_tree_of_classes() -> None:
    """The docstring of `errors` shows each public error, under its parent."""
    shown: dict[str, str | None] = {}
    parents: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([ │├└]*)([A-Z]\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 3 + bool(match[1])
            parents[depth] = match[2]
            shown[match[2]] = parents.get(depth - 1)
    assert sorted(shown) == sorted(errors.__all__)
    for name, parent in shown.items():
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        assert parent is None or parent in bases, f"{name} is shown under {parent}"


def test_every_error_has_a_token_and_a_status() -> None:
    """Each public error says what a frontend answers and what a log calls it."""
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert 400 <= kind.status_hint <= 599
        assert re.fullmatch(r"[a-z][a-z-]*", kind.outcome)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_the_original_has_a_row(option: str) -> None:
    """Each option of http_cache_stream is kept, or has a replacement with a reason."""
    (row,) = (row for row in table("Options") if f"`{option}`" in row[0])
    replaced = row[2] == "none" or not row[2].strip("`").isidentifier()
    assert not replaced or row[4] or "transport" in row[2]


def test_the_settings_named_instead_exist() -> None:
    """What the table calls a setting of ours is one."""
    names = {row["name"] for row in describe()}
    for row in table("Options"):
        for name in re.findall(r"`(\w+)`", row[2]):
            assert name in names, name


@pytest.mark.parametrize(
    ("title", "kind"), [("The manager", CacheManager), ("A stream", CacheStream)]
)
def test_what_replaces_the_members_exists(title: str, kind: type) -> None:
    """What the tables call a method or attribute of ours is one, or is a setting."""
    settings = {row["name"] for row in describe()}
    for row in table(title):
        name = re.match(r"(?:setting )?`(?:await )?(\w+)", row[1])
        known = settings if row[1].startswith("setting") else {*dir(kind), "settings", "async"}
        if name and name[1] != kind.__name__:
            assert name[1] in known, row


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_of_the_original_has_a_row(member: str) -> None:
    """Each method and attribute of its manager and streams stands in a table."""
    firsts = [row[0] for row in table("The manager") + table("A stream")]
    assert any(re.search(rf"`(?:\w+\.)?{member}\b", first) for first in firsts)


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_the_original_has_a_row(name: str) -> None:
    """Each public value and exception stands in a table."""
    assert any(f"`{name}`" in row[0] for row in table("Values and errors"))


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_compile(code: str) -> None:
    """Every Python example is Python."""
    compile(code, "example", "exec")


def test_the_readme_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the README shows in Python works as it stands, with a local origin for example.com."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    match = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert match is not None
    with OriginThread() as origin:
        for name in ("video.mp4", "song.mp3", "data.parquet"):
            origin.add(f"/{name}", pattern(name, 1 << 20))
        code = match[1].replace("https://example.com", origin.url(""))
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
        assert origin.bytes_sent("/video.mp4") == 0
        assert origin.bytes_sent("/song.mp3") == 1 << 20
    shown = capsys.readouterr().out
    assert shown.startswith("http://127.0.0.1:")
    assert f"{1 << 20} {1 << 20}\n" in shown
    assert repr(pattern("data.parquet", 1 << 20).bytes(1024, 2048)) in shown


@pytest.mark.parametrize("code", blocks("console"))
def test_commands_in_examples_exist(code: str) -> None:
    """Every command of ours that is shown exists, with the flags that are shown."""
    for line in re.sub(r"\\\n *", "", code).splitlines():
        words = shlex.split(line, comments=True) if line.startswith("$ ") else []
        if words[1:2] == ["cachestream"]:
            command = program.commands[words[2]]
            known = {flag for param in command.params for flag in param.opts + param.secondary_opts}
            given = words[3:]
            if "--" in given:
                given = given[: given.index("--")]
            flags = {word.partition("=")[0] for word in given if word.startswith("-")}
            assert flags <= known
        elif words[1:2] == ["make"]:
            targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert words[2] in targets


def test_every_page_is_linked_from_the_index() -> None:
    """No page of the docs is out of reach."""
    index = (DOCS / "index.md").read_text()
    for path in DOCS.rglob("*.md"):
        if path.name != "index.md":
            assert f"({path.relative_to(DOCS)})" in index


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((ROOT / "changes").glob("*.md")) if p.name != "README.md"],
    ids=lambda p: p.name,
)
def test_fragments_are_named_as_they_should(path: Path) -> None:
    """A fragment is NAME.KIND.md with one of the kinds, and not empty."""
    pattern = r"[\w-]+\.(added|changed|deprecated|removed|fixed|security)\.md"
    assert re.fullmatch(pattern, path.name)
    assert path.read_text().strip()


def test_the_readme_names_every_command() -> None:
    """Whoever reads the README has seen every command."""
    text = (ROOT / "README.md").read_text()
    for name, command in program.commands.items():
        assert isinstance(command, click.Command)
        assert re.search(rf"(cachestream |`){name}\b", text), name
