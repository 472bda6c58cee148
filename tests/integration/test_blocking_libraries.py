"""Libraries that read a binary file read one of ours, from an origin that misbehaves."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from cachestream import blocking
from cachestream.testing.origin import OriginThread, pattern

PATIENCE_S = 45.0

Put = Callable[[bytes], str]


MOODS: dict[str, dict[str, Any]] = {
    "honest": {},
    "drops": {"drop_after": 50_000},
    "refuses-twice": {"status": 503, "status_times": 2},
    "without-ranges": {"ranges": False},
    "answers-in-full": {"range_answer": "full"},
    "drops-by-reset": {"drop_after": 100_000, "drop_reset": True},
}


@pytest.fixture
def origin() -> Iterator[OriginThread]:
    """Run an origin for one test."""
    with OriginThread() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[blocking.CacheManager]:
    """Open a cache that fetches what is asked for, and tries again quickly."""
    with blocking.CacheManager(
        cache_dir=tmp_path / "cache",
        min_free=0,
        completion="demand",
        retry_delay=0.01,
        max_retry_delay=0.05,
    ) as running:
        yield running


@pytest.fixture(params=MOODS)
def put(request: pytest.FixtureRequest, origin: OriginThread) -> Put:
    """Serve data in one of the origin's moods; return its URL."""

    def serve(data: bytes) -> str:
        origin.add("/data", data, **MOODS[request.param])
        return origin.url("/data")

    return serve


def archive(members: dict[str, bytes]) -> bytes:
    """Return a zip archive of members that are stored as they are."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as writer:
        for name, data in members.items():
            writer.writestr(name, data)
    return target.getvalue()


def test_zipfile_reads_members(cache, put):
    """The names, the last and the first member of an archive are right, and its sums hold."""
    members = {f"{each}.bin": pattern(each, 60_000).bytes() for each in range(5)}
    url = put(archive(members))
    with cache.open(url, timeout=PATIENCE_S) as file, zipfile.ZipFile(file) as reader:
        assert reader.namelist() == list(members)
        for name in reversed(members):
            assert reader.read(name) == members[name]
        assert reader.testzip() is None


def test_zipfile_fetches_what_it_needs(cache, origin):
    """One small member of a large archive costs a small part of it."""
    members = {f"{each}.bin": pattern(each, 4 << 20).bytes() for each in range(12)}
    members["small.txt"] = b"small"
    data = archive(members)
    origin.add("/large.zip", data)
    with cache.open(origin.url("/large.zip"), timeout=PATIENCE_S) as file:
        with zipfile.ZipFile(file) as reader:
            assert reader.read("small.txt") == b"small"
    assert cache.statistics().bytes_from_origin < len(data) // 4


def song(kind: str, subtype: str) -> tuple[bytes, np.ndarray]:
    """Return two seconds of two tones, coded, and what they decode to."""
    time = np.arange(88_200) / 44_100
    tones = np.stack([np.sin(2 * np.pi * hertz * time) / 2 for hertz in (440, 660)], axis=1)
    target = io.BytesIO()
    soundfile.write(target, tones, 44_100, format=kind, subtype=subtype)
    samples, _ = soundfile.read(io.BytesIO(target.getvalue()))
    return target.getvalue(), samples


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16")])
def test_soundfile_reads_and_seeks(cache, put, kind, subtype):
    """Samples are those of the same file on disk, from the start and after a seek."""
    data, samples = song(kind, subtype)
    with cache.open(put(data), timeout=PATIENCE_S) as file, soundfile.SoundFile(file) as sound:
        assert (sound.samplerate, sound.channels, len(sound)) == (44_100, 2, 88_200)
        assert np.array_equal(sound.read(), samples)
        sound.seek(50_000)
        assert np.array_equal(sound.read(1000), samples[50_000:51_000])


def film() -> bytes:
    """Return a film of 60 frames, coded as MPEG-4 with its index at the end."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as writer:
        video = writer.add_stream("mpeg4", rate=24)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        video.codec_context.time_base = Fraction(1, 24)
        video.codec_context.gop_size = 12
        noise = np.random.default_rng(1)
        for _ in range(60):
            picture = noise.integers(0, 255, (240, 320, 3), dtype=np.uint8)
            writer.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        writer.mux(video.encode())
    return target.getvalue()


def frames(file: Any, start_s: float | None = None) -> list[tuple[int | None, bytes]]:
    """Return time and first row of every frame, from a seek on if one is wanted."""
    with av.open(file) as reader:
        if start_s is not None:
            reader.seek(int(start_s * av.time_base))
        return [
            (each.pts, each.to_ndarray(format="gray")[0].tobytes())
            for each in reader.decode(video=0)
        ]


@pytest.fixture(scope="module")
def coded_film() -> bytes:
    """Make the film once."""
    return film()


def test_pyav_decodes_and_seeks(cache, put, coded_film):
    """Frames are those of the same film on disk, from the start and after a seek."""
    url = put(coded_film)
    with cache.open(url, timeout=PATIENCE_S) as file:
        got = frames(file)
        assert len(got) == 60
        assert got == frames(io.BytesIO(coded_film))
    with cache.open(url, timeout=PATIENCE_S) as file:
        got = frames(file, 1.5)
        assert 0 < len(got) < 60
        assert got == frames(io.BytesIO(coded_film), 1.5)


def table(rows: int) -> pd.DataFrame:
    """Return numbers and words that cannot be squeezed much."""
    noise = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "number": noise.integers(0, 1 << 40, rows),
            "share": noise.random(rows),
            "word": [f"w{each}" for each in noise.integers(0, 1 << 20, rows)],
        }
    )


def test_pandas_reads_text(cache, put):
    """A table is the one that was written."""
    wanted = table(5000)
    text = wanted.to_csv(index=False).encode()
    with cache.open(put(text), timeout=PATIENCE_S) as file:
        pd.testing.assert_frame_equal(pd.read_csv(file), wanted)


def test_pandas_reads_packed_text(cache, put):
    """A packed table is unpacked on the way."""
    wanted = table(5000)
    target = io.BytesIO()
    wanted.to_csv(target, index=False, compression="gzip")
    with cache.open(put(target.getvalue()), timeout=PATIENCE_S) as file:
        pd.testing.assert_frame_equal(pd.read_csv(file, compression="gzip"), wanted)


def test_pandas_reads_parquet(cache, put):
    """A table comes out of Parquet as it went in, whole and one column of it."""
    wanted = table(20_000)
    target = io.BytesIO()
    wanted.to_parquet(target)
    url = put(target.getvalue())
    with cache.open(url, timeout=PATIENCE_S) as file:
        pd.testing.assert_frame_equal(pd.read_parquet(file), wanted)
    with cache.open(url, timeout=PATIENCE_S) as file:
        got = pd.read_parquet(file, columns=["share"])
    pd.testing.assert_frame_equal(got, wanted[["share"]])


def test_pyarrow_fetches_the_columns_it_needs(cache, origin):
    """One column of a wide table costs about a column, not the table."""
    noise = np.random.default_rng(3)
    wide = pa.table({f"c{each}": noise.random(250_000) for each in range(24)})
    target = io.BytesIO()
    pq.write_table(wide, target, compression="none", use_dictionary=False, row_group_size=250_000)
    data = target.getvalue()
    origin.add("/wide.parquet", data)
    with cache.open(origin.url("/wide.parquet"), timeout=PATIENCE_S) as file:
        got = pq.read_table(pa.PythonFile(file, mode="r"), columns=["c7"])
    assert got.equals(wide.select(["c7"]))
    assert cache.statistics().bytes_from_origin < len(data) // 4
