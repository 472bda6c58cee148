"""Load by wrk, a client as fast as C: it counts; whether bytes are right is checked beside it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from benchmarks.content import Item, WrongBytesError

__all__ = ["Load", "random_ranges", "small_files", "wrk"]

_RANGES: Final = """
function init() math.randomseed(id) end
function request()
  local first = math.random(0, SIZE - LENGTH)
  local range = string.format("bytes=%d-%d", first, first + LENGTH - 1)
  return wrk.format("GET", PATH, {["Range"] = range})
end
"""

# wrk calls request() once before it begins, to look at it: that one is made and never sent.
# It would go on to the end of its time with nothing to ask for, so it interrupts itself, a moment
# later: while `os.execute` runs a command, the signal would be ignored.
_SMALL: Final = """
function init() at = -2 end
function request()
  at = at + 1
  if at == COUNT + 64 then
    local pid = io.open("/proc/self/stat"):read("*n")
    os.execute("(sleep 0.1; kill -INT " .. pid .. ") &")
  end
  local number = math.max(0, math.min(at, COUNT - 1))
  local name = string.format("small/%03d/%03d.bin", math.floor(number / 1000), number % 1000)
  return wrk.format("GET", PATH .. name)
end
"""

_AROUND: Final = """
local threads = 0
function setup(thread) thread:set("id", threads); threads = threads + 1 end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "received": %d, "seconds": %f, "p50": %f, "p99": %f, '
    .. '"longest": %f, "failures": %d}\\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, latency.max / 1e6,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@attrs.frozen(kw_only=True)
class Load:
    """What wrk saw; times in seconds.

    Attributes:
        requests: Answers received.
        received: Bytes received, heads included.
        seconds: How long it took.
        p50: Time that half of the answers took at most.
        p99: Time that 99 of 100 took at most.
        longest: Time of the slowest answer.
        failures: Answers with another status than 2xx or 3xx, and failed connections.
    """

    requests: int
    received: int
    seconds: float
    p50: float
    p99: float
    longest: float
    failures: int

    def must_be_of(self, length: int) -> None:
        """Check that all answers came, with ``length`` bytes of content each.

        Raises:
            WrongBytesError: If not.
        """
        each = self.received / max(self.requests, 1)
        # A head has some hundred bytes, and what is under way at the end counts as well.
        if self.failures or not length <= each < length * 1.1 + 1024:
            raise WrongBytesError(f"{self.failures} failures, {each:.0f} bytes an answer: {self}")


def _lua(code: str, **values: object) -> str:
    """Return a script with its constants; Lua's literals are those of JSON here."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + code + _AROUND


def random_ranges(base: str, item: Item, length: int) -> str:
    """Return a script that asks for random ranges of one file."""
    path = f"{urlsplit(base).path.rstrip('/')}/{item.name}"
    return _lua(_RANGES, PATH=path, SIZE=item.size, LENGTH=length)


def small_files(base: str, count: int) -> str:
    """Return a script, for one thread, that asks for each of the first small files once."""
    return _lua(_SMALL, PATH=urlsplit(base).path.rstrip("/") + "/", COUNT=count)


def wrk(
    base: str, script: str, folder: Path, *, seconds: float, connections: int, threads: int = 2
) -> Load:
    """Run wrk and return what it saw.

    Args:
        base: URL of the server.
        script: What it asks for; the name of a file in ``folder`` is made of it.
        folder: Where the script is written.
        seconds: How long.
        connections: How many kept-alive connections, at least as many as threads.
        threads: How many threads.
    """
    file = folder / "load.lua"
    file.write_text(script)
    parts = urlsplit(base)
    sizes = [f"-t{min(threads, connections)}", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    command = ["wrk", *sizes, "--timeout", "30s", "-s", str(file), f"http://{parts.netloc}/"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return Load(**found)
    raise RuntimeError(f"wrk failed: {done.stdout[-500:]}{done.stderr[-500:]}")
