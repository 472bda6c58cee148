"""Sockets that a service manager opened and passed: systemd's socket activation.

See sd_listen_fds(3): ``LISTEN_FDS`` descriptors from 3 on are meant for the process whose
number ``LISTEN_PID`` is, and nobody else.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import Final

import attrs

from cachestream.errors import ConfigurationError
from cachestream.frontends._addresses import is_loopback, is_unix

__all__ = [
    "Inherited",
    "count_inherited",
    "has_wide_address",
    "passed_only_loopback",
    "take_inherited",
]

_FIRST: Final = 3
_VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


@attrs.frozen
class Inherited:
    """A listening socket that was passed, and its name in the socket unit."""

    sock: socket.socket
    name: str


def count_inherited(environment: MutableMapping[str, str] = os.environ) -> int:
    """Return how many descriptors were passed to this process; 0 if they are another's."""
    pid, count = environment.get("LISTEN_PID", ""), environment.get("LISTEN_FDS", "")
    if not (pid.isascii() and pid.isdigit() and count.isascii() and count.isdigit()):
        return 0
    return int(count) if int(pid) == os.getpid() else 0


def take_inherited(
    environment: MutableMapping[str, str] = os.environ, *, first: int | None = None
) -> tuple[Inherited, ...]:
    """Take over the sockets that were passed; there are none the second time.

    They are not inherited by child processes from now on, and neither are the variables,
    which are removed. The caller closes them.

    Args:
        environment: Where the variables are.
        first: The first descriptor, None for where the protocol has it.

    Raises:
        ConfigurationError: If something was passed that nobody can connect to.
    """
    count = count_inherited(environment)
    names = environment.get("LISTEN_FDNAMES", "").split(":") if count else []
    for variable in _VARIABLES if count else ():
        environment.pop(variable, None)
    taken: list[Inherited] = []
    try:
        for number in range(count):
            name = names[number] if number < len(names) and names[number] else "unknown"
            descriptor = (_FIRST if first is None else first) + number
            taken.append(Inherited(_socket_of(descriptor, name), name))
    except BaseException:
        for each in taken:
            each.sock.close()
        raise
    return tuple(taken)


def _socket_of(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise ConfigurationError(
            f"descriptor {descriptor} ({name}), which was passed to listen on, is no socket",
            hint="List only ListenStream= in the socket unit",
        ) from error
    listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    )
    if not listens or not (is_unix(sock) or sock.family in (socket.AF_INET, socket.AF_INET6)):
        sock.close()
        raise ConfigurationError(
            f"descriptor {descriptor} ({name}), which was passed to listen on, does not listen",
            hint="Use ListenStream= with an address or a path, and Accept=no, in the socket unit",
        )
    sock.setblocking(False)
    return sock


def has_wide_address(sockets: Sequence[socket.socket]) -> bool:
    """Tell whether one of these sockets is reached from other machines."""
    return any(not is_unix(sock) and not is_loopback(sock.getsockname()[0]) for sock in sockets)


def passed_only_loopback() -> bool:
    """Tell whether this process was passed no descriptor but sockets on loopback addresses.

    They are looked at, not taken.
    """
    for descriptor in range(_FIRST, _FIRST + count_inherited()):
        try:
            with socket.socket(fileno=os.dup(descriptor)) as sock:
                if is_unix(sock) or has_wide_address((sock,)):
                    return False
        except OSError:
            return False
    return True
