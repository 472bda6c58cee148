"""The service manager is told when `serve` is ready, that it is alive, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
from pathlib import Path

import pytest

from cachestream.cli._notify import Notifier

PATIENCE_S = 45.0


@pytest.fixture(params=["path", "abstract"])
def manager(request):
    """Play the service manager's part: its socket, and the address to give to a service."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cs"))
        address = f"{folder}/notify" if request.param == "path" else f"@{folder}/notify"
        sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        sock.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        sock.settimeout(PATIENCE_S)
        yield sock, address


def told(sock: socket.socket) -> dict[str, str]:
    """Return what the next datagram says."""
    lines = sock.recv(4096).decode().split("\n")
    return dict(line.split("=", 1) for line in lines)


def test_a_state_is_one_datagram(manager):
    """Lines arrive together; what would end the status line does not."""
    sock, address = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    notifier.ready("serving\nFDSTORE=1  at  http://x")
    assert told(sock) == {"READY": "1", "STATUS": "serving FDSTORE=1 at http://x"}
    notifier.stopping()
    assert told(sock) == {"STOPPING": "1", "STATUS": "closing"}


def test_the_variables_are_ours_alone():
    """What a child would inherit is removed; the rest stays."""
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1", "A": "b"}
    notifier = Notifier.from_environment(environment)
    assert environment == {"A": "b"}
    assert notifier == Notifier("/x")  # the watchdog is another process's


@pytest.mark.parametrize(
    ("period", "pid", "seconds"),
    [
        ("2000000", None, 2.0),
        ("500000", "own", 0.5),
        ("2000000", "1", None),
        ("0", None, None),
        ("-5", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_is_as_the_variables_say(period, pid, seconds):
    """A period in microseconds counts if it is meant for this process."""
    environment = {"NOTIFY_SOCKET": "@x"}
    if period is not None:
        environment["WATCHDOG_USEC"] = period
    if pid is not None:
        environment["WATCHDOG_PID"] = str(os.getpid()) if pid == "own" else pid
    assert Notifier.from_environment(environment) == Notifier("\0x", seconds)


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
def test_nobody_to_tell(address):
    """Without a service manager, or with one on another machine, nothing is told."""
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    assert notifier == Notifier()
    notifier.ready("x")
    asyncio.run(notifier.beat(lambda: 1 / 0, str))


def test_a_manager_that_is_gone_is_no_failure(tmp_path: Path, caplog):
    """A socket that nobody reads is one warning, and no more."""
    Notifier(str(tmp_path / "gone")).ready("x")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "READY=1" in caplog.text


def test_signs_of_life_stop_where_nobody_is_answered(manager):
    """As long as the check passes there are signs of life; one that fails or hangs gives none."""
    sock, address = manager
    outcomes = iter([None, ValueError(), "hang", None])

    async def is_well() -> None:
        outcome = next(outcomes, "end")
        if outcome == "hang":
            await asyncio.Event().wait()
        if outcome == "end":
            raise KeyboardInterrupt
        if outcome is not None:
            raise outcome

    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"})
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(notifier.beat(is_well, lambda: "fine"))
    sock.setblocking(False)
    assert [told(sock) for _ in range(2)] == [{"WATCHDOG": "1", "STATUS": "fine"}] * 2
    with pytest.raises(BlockingIOError):
        sock.recv(1)


def test_serve_tells_its_life(manager, start, environment):
    """`serve` is ready when it listens, gives signs of life, and says that it ends."""
    sock, address = manager
    environment["NOTIFY_SOCKET"] = address
    environment["WATCHDOG_USEC"] = "200000"
    process = start("serve", "--port", "0")
    try:
        ready = told(sock)
        assert ready["READY"] == "1"
        base = process.stdout.readline().decode().strip()
        assert base in ready["STATUS"]
        port = int(base.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
        alive = told(sock)
        assert alive["WATCHDOG"] == "1"
        assert "0 requests, 0 hits" in alive["STATUS"]
        process.terminate()
        while "STOPPING" not in (last := told(sock)):
            assert last["WATCHDOG"] == "1"
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()


def test_serve_ends_when_nobody_asks(start):
    """With `--exit-when-idle` it ends well after a time without requests."""
    process = start("serve", "--port", "0", "--exit-when-idle", "1s")
    out, shown = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, shown
    assert out.startswith(b"http://127.0.0.1:")
    assert b"nobody asks any more" in shown
