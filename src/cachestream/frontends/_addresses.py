"""Addresses that can be listened on: which are safe, what they are called, what went wrong."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any, Final

from cachestream.errors import ConfigurationError

__all__ = ["WILDCARDS", "authority", "is_loopback", "is_unix", "listen_error"]

WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
"""Addresses that stand for all of this machine's, and by which a program on it gets there."""

_UNIX: Final = getattr(socket, "AF_UNIX", None)


def is_loopback(host: str) -> bool:
    """Tell whether a host, as it may be listened on, is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_unix(sock: socket.socket | None) -> bool:
    """Tell whether a socket is a Unix one; one that is not known is none."""
    return sock is not None and _UNIX is not None and sock.family == _UNIX


def authority(address: tuple[Any, ...]) -> str:
    """Return a socket's address as it stands in a URL and in Host: ``[::1]:4612``."""
    host, port = str(address[0]).partition("%")[0].removeprefix("::ffff:"), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen_error(host: str, port: int, error: Exception) -> ConfigurationError:
    """Return what to say when an address cannot be listened on."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return ConfigurationError(
            f"port {port} on {host} is taken",
            hint="Stop the program that holds it, or choose another port (0 takes a free one)",
        )
    if number in (errno.EACCES, errno.EPERM):
        return ConfigurationError(
            f"port {port} on {host} is not allowed to this user",
            hint="Choose a port above 1023 (0 takes a free one)",
        )
    return ConfigurationError(
        f"cannot listen on {host}, port {port}: {error}",
        hint="Choose an address of this machine, such as 127.0.0.1",
    )
