"""The demonstration has a media file with or without ffmpeg."""

import shutil
import wave
from pathlib import Path

import pytest

from cachestream.cli import _media
from cachestream.cli._media import make_media, make_wav


def test_without_ffmpeg_it_is_a_wav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python alone makes a sound file, large enough to seek in."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    path = make_media(tmp_path)
    assert path.suffix == ".wav"
    assert path.stat().st_size > 8 << 20


def test_an_ffmpeg_that_fails_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ffmpeg without the codecs, or one that is none, leads to the WAV."""
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    assert make_media(tmp_path).suffix == ".wav"
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "nowhere"))
    assert make_media(tmp_path).suffix == ".wav"


def test_an_ffmpeg_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ffmpeg that does not end is ended."""
    slow = tmp_path / "ffmpeg"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(slow))
    monkeypatch.setattr(_media, "_FFMPEG_TIMEOUT_S", 0.1)
    assert make_media(tmp_path).suffix == ".wav"


def test_a_wav_is_one(tmp_path: Path) -> None:
    """The file has the length, rate and channels it says, and is no silence."""
    make_wav(tmp_path / "a.wav", seconds=2)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 44100, 88200)
        assert len(set(file.readframes(1000))) > 100
