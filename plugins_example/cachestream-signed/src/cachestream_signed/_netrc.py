"""User names and passwords from a netrc file, as HTTP's Basic scheme (RFC 7617)."""

from __future__ import annotations

import asyncio
import base64
import netrc
import os
import stat
from pathlib import Path
from typing import Any

import attrs
import yarl
from cachestream.abc import UpstreamRequest

from cachestream_signed._errors import CredentialsError
from cachestream_signed._signer import Signer

__all__ = ["Netrc"]


class Netrc(Signer):
    """Sends the login and password that a netrc file has for a host, and for that host only.

    A ``default`` entry is not used: it would give a password to every host that there is. A
    request that has an Authorization field keeps it. The file is looked at for every request
    and read anew when it was changed; it must belong to this user (or root) and be readable by
    nobody else.

    Args:
        origins: As for `Signer`; ``*``, the default, for every host that the file names. Only
            then may ``~/.netrc`` be missing.
        file: The file; None for the one that NETRC names, or ``~/.netrc``.
        more: As for `Signer`.
    """

    for_any_host = True

    def __init__(self, *origins: str, file: str | Path | None = None, **more: Any) -> None:
        super().__init__(*(origins or ("*",)), **more)
        self._file = None if file is None else Path(file)
        self._known: tuple[tuple[int, ...], netrc.netrc] | None = None

    async def sign(self, request: UpstreamRequest) -> UpstreamRequest:
        if "Authorization" in request.fields:
            return request
        host = yarl.URL(request.url, encoded=True).raw_host or ""
        entries = await asyncio.to_thread(self._read)
        entry = None if entries is None else entries.hosts.get(host)
        if entry is None:
            return request
        login, account, password = entry
        fields = request.fields.replace(("Authorization", _basic(login or account, password, host)))
        return attrs.evolve(request, fields=fields)

    def _read(self) -> netrc.netrc | None:
        path = self._path()
        try:
            found = path.stat()
            mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode)
            known = self._known  # a pair that is replaced as a whole: threads may be here at once
            if known is not None and known[0] == mark:
                return known[1]
            _check(path, found)
            entries = netrc.netrc(str(path))
        except netrc.NetrcParseError as exc:
            # Its text shows the bad line, which may be a password.
            raise CredentialsError(
                f"the netrc file {path} is malformed in line {exc.lineno}", hint="Correct it"
            ) from None
        except FileNotFoundError as exc:
            if self._is_optional:
                return None
            raise CredentialsError(f"there is no netrc file {path}", hint="Make it") from exc
        except (OSError, ValueError) as exc:
            raise CredentialsError(
                f"the netrc file {path} cannot be read: {type(exc).__name__}",
                hint="Make it, or name another one",
            ) from exc
        self._known = (mark, entries)
        return entries

    @property
    def _is_optional(self) -> bool:
        """Whether nobody said that there is a file: neither by name, nor by naming a host."""
        named = self._file is not None or bool(os.environ.get("NETRC"))
        return not named and not any(origin.host for origin in self.origins)

    def _path(self) -> Path:
        try:
            return Path(self._file or os.environ.get("NETRC") or "~/.netrc").expanduser()
        except RuntimeError as exc:
            raise CredentialsError("this user has no home directory", hint="Name a file") from exc


def _check(path: Path, found: os.stat_result) -> None:
    if os.name != "posix":  # modes mean nothing elsewhere
        return
    if found.st_uid not in (os.getuid(), 0):
        raise CredentialsError(
            f"the netrc file {path} belongs to somebody else", hint=f"Run: chown $USER {path}"
        )
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CredentialsError(
            f"the netrc file {path} can be read or written by others", hint=f"Run: chmod 600 {path}"
        )


def _basic(login: str, password: str | None, host: str) -> str:
    if ":" in login:  # RFC 7617 §2
        raise CredentialsError(
            f"the login that the netrc file has for {host} has a colon in it",
            hint="The Basic scheme cannot carry that",
        )
    return "Basic " + base64.b64encode(f"{login}:{password or ''}".encode()).decode("ascii")
