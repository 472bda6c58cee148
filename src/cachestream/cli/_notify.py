"""Telling the service manager how a service is: systemd's notification protocol.

See sd_notify(3): lines of ``NAME=value`` in one datagram, to the Unix socket that
``NOTIFY_SOCKET`` names. Without a service manager nothing is told, and nothing fails.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Final, Self

import attrs

__all__ = ["Notifier"]

_logger = logging.getLogger("cachestream.cli")

# Twice in the time after which the service manager takes us for dead, as it recommends.
_BEATS: Final = 2


@attrs.frozen
class Notifier:
    """Tells a service manager of a state, and that this process is alive.

    Attributes:
        address: Where the datagrams go, as the system calls have it; None for nowhere.
        watchdog_s: Seconds without a sign of life after which we are restarted; None for ever.
    """

    address: str | None = None
    watchdog_s: float | None = None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """Make one as the environment says; the variables are removed, they are ours alone."""
        path = environment.pop("NOTIFY_SOCKET", "")
        period = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        if not path.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
            return cls()
        address = f"\0{path[1:]}" if path.startswith("@") else path
        ours = pid in ("", str(os.getpid()))
        watched = ours and period.isascii() and period.isdigit() and int(period) > 0
        return cls(address, int(period) / 1_000_000 if watched else None)

    def tell(self, *lines: str) -> None:
        """Send lines such as ``READY=1``; a manager that does not listen is no failure of ours."""
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect(self.address)
                sock.send("\n".join(lines).encode())
        except OSError as error:
            _logger.warning("the service manager cannot be told %s: %s", lines[0], error)

    def ready(self, status: str) -> None:
        """Tell that requests are answered from now on."""
        self.tell("READY=1", _status(status))

    def stopping(self) -> None:
        """Tell that this is the end."""
        self.tell("STOPPING=1", _status("closing"))

    async def beat(
        self, is_well: Callable[[], Awaitable[object]], status: Callable[[], str]
    ) -> None:
        """Give signs of life as long as ``is_well`` returns; for ever, or not at all.

        A loop that is stuck gives none, and neither does a server that answers nobody: then
        the service manager restarts us.
        """
        if self.address is None or self.watchdog_s is None:
            return
        pause = self.watchdog_s / _BEATS
        while True:
            try:
                async with asyncio.timeout(pause):
                    await is_well()
            except Exception as error:
                _logger.error("no sign of life is given to the service manager: %r", error)
            else:
                self.tell("WATCHDOG=1", _status(status()))
            await asyncio.sleep(pause)


def _status(text: str) -> str:
    """Return the line for people; what would end it becomes a space."""
    return "STATUS=" + " ".join(text.split())
