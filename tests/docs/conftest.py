"""The code blocks of all pages, and a loopback origin that stands for example.com."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import attrs
import pytest
from markdown_it import MarkdownIt

from cachestream.testing.origin import OriginThread, pattern

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changes").glob("*")])
RUNNABLE = ("python", "console")
SHELLS = ("bash", "sh", "shell", "zsh")

# A block that cannot run here says so on the line before it, with the reason.
MARKER = re.compile(r"<!-- not run: (.+) -->")
# A block that begins with a comment of this form is a file.
FILE_NAME = re.compile(r"# ([\w.-]+\.(?:py|toml|ini|conf|cfg|yml|service))\n")


@attrs.frozen
class Block:
    """A fenced block of a page.

    Attributes:
        line: Number of its first line, counted from 1.
        excuse: Why it is not run, None if it is.
        file: Name of the file that it is (a part of), None if it is none.
    """

    page: str
    line: int
    language: str
    code: str
    excuse: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        match = FILE_NAME.match(self.code)
        return match[1] if match else None


def blocks_of(path: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    excuse = None
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type == "html_block":
            match = MARKER.match(token.content.strip())
            excuse = match[1] if match else None
        elif token.type == "fence" and token.map:
            page = str(path.relative_to(ROOT))
            language = token.info.strip().partition(" ")[0]
            found.append(Block(page, token.map[0] + 2, language, token.content, excuse))
            excuse = None
        else:
            excuse = None
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests the pages, or the blocks, that they ask for by a parameter's name."""
    if "markdown" in metafunc.fixturenames:
        metafunc.parametrize("markdown", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
    if "page_blocks" in metafunc.fixturenames:
        every = [blocks for path in PAGES if (blocks := blocks_of(path))]
        chosen = [blocks for blocks in every if any(b.language in RUNNABLE for b in blocks)]
        metafunc.parametrize("page_blocks", chosen, ids=lambda blocks: blocks[0].page)


@pytest.fixture(scope="session")
def all_blocks() -> list[Block]:
    """Return the blocks of all pages."""
    return [block for path in PAGES for block in blocks_of(path)]


@pytest.fixture(scope="session")
def pages() -> list[Path]:
    """Return all pages."""
    return PAGES


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a film that real players play."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    sources = ["-f", "lavfi", "-i", "testsrc2=duration=2", "-f", "lavfi", "-i", "sine=duration=2"]
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *sources, "-c:v", "mpeg4", str(path)]
    subprocess.run(command, check=True, timeout=120)
    return path.read_bytes()


@pytest.fixture(scope="session")
def presentation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of an HLS presentation: a master playlist, a playlist, its segments."""
    folder = tmp_path_factory.mktemp("hls")
    command = ["ffmpeg", "-nostdin", "-loglevel", "error"]
    command += [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=duration=4:rate=25",
        "-g",
        "25",
        "-c:v",
        "mpeg2video",
    ]
    command += ["-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod"]
    command += ["-master_pl_name", "master.m3u8", str(folder / "film.m3u8")]
    subprocess.run(command, check=True, timeout=120)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return one table in the formats that the pages read."""
    import pandas

    frame = pandas.DataFrame({"name": ["a", "b"] * 500, "price": range(1000)})
    text = frame.to_csv(index=False).encode()
    packed, parquet = BytesIO(), BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("member.csv", text)
    frame.to_parquet(parquet)
    return {"csv": text, "zip": packed.getvalue(), "parquet": parquet.getvalue()}


@pytest.fixture
def example_com(
    film: bytes, table: dict[str, bytes], presentation: dict[str, bytes]
) -> Iterator["ExampleCom"]:
    """Run an origin that has whatever the pages say that example.com has."""
    with OriginThread() as origin:
        yield ExampleCom(origin, {"mp4": film, "mkv": film, **table}, presentation)


class ExampleCom:
    """Puts the loopback origin in place of example.com, and serves what is named there."""

    HOST = re.compile(r"https?://(?:[\w-]+\.)*example\.(?:com|net|org)(?=[/\"'` \n)]|$)")

    def __init__(
        self,
        origin: OriginThread,
        by_suffix: dict[str, bytes],
        presentation: dict[str, bytes],
    ) -> None:
        self.origin = origin
        self._presentation = presentation
        self._by_suffix = by_suffix
        self._served: set[str] = set()

    def put(self, text: str) -> str:
        """Return a text with local URLs; what they name is served from then on."""
        text = self.HOST.sub(self.origin.url("").rstrip("/"), text)
        for path in re.findall(rf"{re.escape(self.origin.url(''))}([\w./%-]+\w)", text):
            self._serve("/" + path.lstrip("/"))
        return text

    def _serve(self, path: str) -> None:
        if path in self._served:
            return
        self._served.add(path)
        suffix = path.rpartition(".")[2]
        if suffix == "zarr":
            self._serve_array(path)
        elif suffix == "m3u8":
            for name, content in self._presentation.items():
                self.origin.add(f"{path.rpartition('/')[0]}/{name}", content)
        else:
            self.origin.add(path, self._by_suffix.get(suffix) or pattern(path, 1_000_000))

    def _serve_array(self, path: str) -> None:
        """Serve an empty zarr array, each of its files."""
        import zarr
        from zarr.storage import MemoryStore

        files: dict[str, object] = {}
        zarr.create_array(MemoryStore(files), shape=(4,), dtype="i4")  # type: ignore[arg-type]
        for name, value in files.items():
            self.origin.add(f"{path}/{name}", value.to_bytes())  # type: ignore[attr-defined]


@pytest.fixture
def shell_environment(tmp_path: Path) -> dict[str, str]:
    """Return variables that give a page a cache and a home of its own, and silent players."""
    shims, temporary = tmp_path / "shims", tmp_path / "tmp"
    shims.mkdir()
    temporary.mkdir()
    player = shutil.which("mpv")
    assert player is not None, "mpv is missing: `make test` installs it"
    silent = "--no-config --vo=null --ao=null --ao-null-untimed --untimed"
    (shims / "mpv").write_text(f'#!/bin/sh\nexec {player} {silent} "$@"\n')
    (shims / "mpv").chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CACHESTREAM_", "PYTEST"))}
    return {
        **kept,
        "PATH": os.pathsep.join(
            (str(shims), str(Path(sys.executable).parent), kept["PATH"], "/usr/sbin")
        ),
        "HOME": str(tmp_path),
        "TMPDIR": str(temporary),
        "XDG_CACHE_HOME": str(tmp_path / "xdg-cache"),
        "XDG_CONFIG_HOME": str(tmp_path / "xdg-config"),
        "CACHESTREAM_PLUGINS": "off",
        "PYTHONUNBUFFERED": "1",
    }
