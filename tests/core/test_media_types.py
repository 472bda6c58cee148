"""Media types by extension."""

import re

import pytest
from hypothesis import given, settings

from cachestream.core.media_types import MEDIA_TYPES, guess_media_type
from cachestream.testing import strategies as our


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com/v.mp4", "video/mp4"),
        ("https://example.com/a/V.MP4?token=x.mp3#t=1.ogg", "video/mp4"),
        ("/example.com/live/index.m3u8", "application/vnd.apple.mpegurl"),
        ("https://example.com/manifest.mpd", "application/dash+xml"),
        ("https://example.com/seg-1.m4s", "video/mp4"),
        ("https://example.com/seg-1.ts", "video/mp2t"),
        ("https://example.com/film.mkv", "video/x-matroska"),
        ("https://example.com/clip.webm", "video/webm"),
        ("https://example.com/a.opus", "audio/ogg"),
        ("https://example.com/a.flac", "audio/flac"),
        ("https://example.com/a.m4a", "audio/mp4"),
        ("https://example.com/a.mp3", "audio/mpeg"),
        ("https://example.com/subtitles.vtt", "text/vtt"),
        ("https://example.com/t.parquet", "application/vnd.apache.parquet"),
        ("https://example.com/cog.tif", "image/tiff"),
        ("https://example.com/cube.zarr/.zarray", "application/json"),
        ("https://example.com/cube.zarr", "application/vnd+zarr"),
        ("https://example.com/x.tar.gz", "application/gzip"),
        ("https://example.com/v%2Emp4", "video/mp4"),
        ("memory.mp3", "audio/mpeg"),
    ],
)
def test_extensions_are_known(url: str, expected: str) -> None:
    """The extension of the path's last segment decides, without case; the query does not."""
    assert guess_media_type(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com", "https://host.mp4", "https://host.mp4/", "https://example.com/mp4",
        "https://example.com/v.mp4/", "https://example.com/v.", "https://example.com/v.unheard",
        "", "/", "?x=.mp4",
    ],
)  # fmt: skip
def test_nothing_is_guessed_without_an_extension(url: str) -> None:
    """A host, a directory or an unknown extension has no type."""
    assert guess_media_type(url) is None


@given(our.hostile_text())
@settings(deadline=None)
def test_no_text_makes_the_guess_raise(url: str) -> None:
    """Any text has a type of the table, or none."""
    assert guess_media_type(url) in {None, *MEDIA_TYPES.values()}


def test_the_table_is_well_formed() -> None:
    """Extensions are lower case without a dot, types have two parts and can be sent."""
    assert all(re.fullmatch(r"[a-z0-9]+", extension) for extension in MEDIA_TYPES)
    assert all(re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", kind) for kind in MEDIA_TYPES.values())
