"""What a filesystem tells of a file, put into HTTP's words; and its errors put into ours."""

from __future__ import annotations

import ftplib
import hashlib
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from cachestream.core.validators import EntityTag
from cachestream.errors import CacheStreamError, ConnectError, TransportError, UpstreamTimeoutError

__all__ = ["Facts", "facts_of", "failure", "status_of"]

# What names a version by itself, as object stores and archives spell it.
_VERSIONS: Final = ("etag", "ETag", "e_tag", "md5Hash", "md5", "checksum", "generation")
_MODIFIED: Final = (
    "mtime",
    "modified",
    "modify",  # FTP (RFC 3659 §7.5.3)
    "LastModified",
    "last_modified",
    "updated",
    "modificationTime",
)
# These make a modification time more telling; alone they say nothing about content.
_IDENTITY: Final = ("ino", "unique", "fileId", "created", "ctime")

# A file with a time of whole seconds may change again within that second, and look the same.
_SETTLED_S: Final = 2.0

# Errors of libraries that need not be installed, by the names of their classes.
_REFUSED: Final = {"AuthenticationException", "NoCredentialsError"}
_UNREACHABLE: Final = {"EndpointConnectionError", "NoValidConnectionsError"}

_NO_FILES: Final = ("directory", "other")


@attrs.frozen
class Facts:
    """What is known of one file.

    Attributes:
        size: Length in bytes, None if the filesystem does not know it.
        tag: Names the version; None if nothing reliable is known, weak while the file is so
            young that another change could look the same.
        modified: When it was last changed, whole seconds since the epoch, None if
            unknown.
    """

    size: int | None
    tag: EntityTag | None = None
    modified: float | None = None

    def same_as(self, other: Facts) -> bool:
        """Tell whether nothing shows that the file has changed in between."""
        opaque = (None if self.tag is None else self.tag.opaque, self.size)
        return opaque == (None if other.tag is None else other.tag.opaque, other.size)


def facts_of(info: Mapping[str, Any], modified: object, now: float) -> Facts | None:
    """Return the facts of what ``fs.info`` gave, None if it is no file.

    Args:
        info: As the filesystem gave it.
        modified: What it says elsewhere about the time of the last change, None if nothing.
        now: Seconds since the epoch.
    """
    if info.get("type") in _NO_FILES:
        return None
    size = info.get("size")
    size = size if isinstance(size, int) and size >= 0 else None
    times = (_moment(value) for value in (*(info.get(name) for name in _MODIFIED), modified))
    moment = next((time for time in times if time is not None), None)
    whole = None if moment is None else float(int(moment))
    return Facts(size, _tag(info, size, moment, now), whole)


def _tag(
    info: Mapping[str, Any], size: int | None, modified: float | None, now: float
) -> EntityTag | None:
    for name in _VERSIONS:
        value = info.get(name)
        if isinstance(value, str | int) and value:
            # Hashed, since a filesystem's text may contain what an entity tag may not.
            return EntityTag(_digest(name, value, size), str(value).startswith("W/"))
    if modified is None or size is None:
        return None
    weak = modified == int(modified) and now - modified < _SETTLED_S
    return EntityTag(_digest(modified, size, *(info.get(name) for name in _IDENTITY)), weak)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]


def _moment(value: object) -> float | None:
    """Return seconds since the epoch for a time as filesystems write it."""
    if isinstance(value, bool):
        return None
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return aware.timestamp()
    if isinstance(value, int | float):
        # Hadoop counts milliseconds.
        return float(value) / (1000 if value > 1e11 else 1)
    if isinstance(value, str):
        return _written(value)
    return None


def _written(text: str) -> float | None:
    for form in ("%Y%m%d%H%M%S.%f", "%Y%m%d%H%M%S"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    try:
        return _moment(datetime.fromisoformat(text))
    except ValueError:
        return None


def status_of(error: BaseException) -> int | None:
    """Return the status that says what a filesystem's error says, None if none does."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return 404
    if isinstance(error, PermissionError) or type(error).__name__ in _REFUSED:
        return 403
    if isinstance(error, ftplib.error_perm):
        # RFC 959 §5.4: 530 is "not logged in", 550 "file unavailable".
        return {"530": 403, "550": 404}.get(str(error)[:3])
    return None


def failure(error: BaseException, shown: str) -> CacheStreamError:
    """Return our error for a filesystem's; its text is left out, which may hold a secret.

    Args:
        error: What was raised.
        shown: The URL as it may be shown.
    """
    if isinstance(error, CacheStreamError):
        return error
    if isinstance(error, TimeoutError):
        return UpstreamTimeoutError(
            "the filesystem did not answer in time", url=shown, hint="See read_timeout"
        )
    if isinstance(error, socket.gaierror):
        return ConnectError(
            "the host name of the filesystem cannot be resolved",
            url=shown,
            hint="Check its spelling and the network",
        )
    if isinstance(error, ConnectionRefusedError) or type(error).__name__ in _UNREACHABLE:
        return ConnectError(
            "the filesystem's server refuses connections",
            url=shown,
            hint="Check that it is running and the port is right",
        )
    return TransportError(
        f"the filesystem failed ({type(error).__name__})",
        url=shown,
        hint="The error that is chained says more",
    )
