"""Our errors as those that users of file systems expect."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from cachestream.errors import (
    AccessDeniedError,
    CacheStreamError,
    ConfigurationError,
    ConnectError,
    NotStoredError,
    PluginError,
    RepresentationChangedError,
    StoreFullError,
    UpstreamStatusError,
    UpstreamTimeoutError,
)

__all__ = ["as_os_error", "os_errors"]

# A missing file must be told from one that cannot be had now: array libraries fill in
# for what is missing. So FileNotFoundError is only what the origin itself says is not there.
_NUMBERS = (
    (AccessDeniedError, errno.EACCES),
    (ConnectError, errno.ECONNREFUSED),
    (NotStoredError, errno.ENETUNREACH),
    (RepresentationChangedError, errno.ESTALE),
    (StoreFullError, errno.ENOSPC),
    (UpstreamTimeoutError, errno.ETIMEDOUT),
)
_STATUSES = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 410: errno.ENOENT}


def as_os_error(error: CacheStreamError) -> OSError:
    """Return the `OSError` (a subclass of it by its number) that says the same."""
    number = errno.EIO
    if isinstance(error, UpstreamStatusError):
        number = _STATUSES.get(error.status, errno.EIO)
    else:
        number = next((each for kind, each in _NUMBERS if isinstance(error, kind)), number)
    return OSError(number, str(error))


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """Raise our errors as `OSError`; wrong settings and URLs stay the `ValueError` they are.

    Raises:
        FileNotFoundError: If the origin says 404 or 410.
        PermissionError: If it says 401 or 403, or may not be asked.
        OSError: If it cannot be reached, is forbidden by ``offline``, or anything else failed.
    """
    try:
        yield
    except (ConfigurationError, PluginError):
        raise
    except CacheStreamError as error:
        raise as_os_error(error) from error
