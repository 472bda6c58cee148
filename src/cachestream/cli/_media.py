"""A media file to show the main job with: made by ffmpeg if it is there, else a WAV."""

from __future__ import annotations

import array
import math
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Final

__all__ = ["make_media", "make_wav"]

_SECONDS: Final = 60
_FFMPEG_TIMEOUT_S: Final = 30.0
_WAV_RATE_HZ: Final = 44_100
# Long enough that a seek far ahead is far in bytes too.
_MIN_BYTES: Final = 8 << 20


def make_media(folder: Path) -> Path:
    """Make a film of about ten megabytes in ``folder``, or a WAV if ffmpeg is not there."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is not None:
        film = folder / "film.mkv"
        if _make_film(ffmpeg, film) and film.stat().st_size >= _MIN_BYTES:
            return film
    sound = folder / "sound.wav"
    make_wav(sound)
    return sound


def _make_film(ffmpeg: str, film: Path) -> bool:
    """Make a test picture with a tone; False if this ffmpeg cannot."""
    # Sound without compression makes the size what it should be, whatever the codecs.
    command = [
        *(ffmpeg, "-nostdin", "-loglevel", "error", "-y"),
        *("-f", "lavfi", "-i", f"testsrc=size=320x180:rate=10:duration={_SECONDS}"),
        *("-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={_SECONDS}"),
        *("-c:v", "mpeg4", "-q:v", "5", "-c:a", "pcm_s16le", "-ac", "2", str(film)),
    ]
    try:
        done = subprocess.run(  # noqa: S603 # the command is ours, and no shell reads it
            command, stdin=subprocess.DEVNULL, check=False, timeout=_FFMPEG_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def make_wav(path: Path, seconds: int = _SECONDS) -> None:
    """Write a stereo tone that climbs each second, at 176,400 bytes a second."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(_WAV_RATE_HZ)
        for second in range(seconds):
            file.writeframes(_tenth_of_a_second(220 + 10 * (second % 24)) * 10)


def _tenth_of_a_second(frequency_hz: int) -> bytes:
    """Return a tone of a multiple of ten hertz: 16-bit, little-endian, both channels alike.

    A tenth of a second holds whole periods of it, so it can be put together without a click.
    """
    step = 2 * math.pi * frequency_hz / _WAV_RATE_HZ
    samples = array.array("h", bytes(4 * (_WAV_RATE_HZ // 10)))
    for i in range(_WAV_RATE_HZ // 10):
        samples[2 * i] = samples[2 * i + 1] = int(8000 * math.sin(step * i))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
