"""What the environment says about proxies and passwords, for those who ask for it."""

from __future__ import annotations

import base64
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote
from urllib.request import getproxies_environment, proxy_bypass

import attrs
import yarl

from cachestream.core.urls import display
from cachestream.errors import ConfigurationError

__all__ = ["Environment", "Proxy"]


@attrs.frozen
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: Where it is, without user information.
        authorization: Value of Proxy-Authorization, None for none.
    """

    url: yarl.URL
    authorization: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Make one from ``http://[user:password@]host[:port]``; the scheme may be missing.

        Raises:
            ConfigurationError: If it is no HTTP proxy.
        """
        try:
            url = yarl.URL(text if "://" in text else f"http://{text}")
            usable = url.scheme in {"http", "https"} and bool(url.raw_host) and url.port
        except ValueError:
            usable = False
        if not usable:
            raise ConfigurationError(
                f"{display(text)!r} is no HTTP proxy", hint="Write http://host:port"
            )
        if url.raw_user is None:
            return cls(url)
        return cls(url.with_user(None), _basic(unquote(url.raw_user), url.password or ""))


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


@attrs.frozen
class Environment:
    """Proxies and netrc entries as they were when the environment was read.

    NO_PROXY alone is looked at anew for each request.
    """

    _proxies: Mapping[str, Proxy]
    _netrc: netrc.netrc | None = attrs.field(repr=False)

    @classmethod
    def read(cls) -> Environment:
        """Read the environment and the netrc file.

        Raises:
            ConfigurationError: If a proxy is none that can be used, or the file is malformed.
        """
        found = getproxies_environment()
        proxies = {
            scheme: Proxy.parse(text)
            for scheme, text in found.items()
            if scheme in {"http", "https"}
        }
        return cls(proxies, _read_netrc())

    def proxy(self, url: yarl.URL) -> Proxy | None:
        """Return the proxy for ``url``, None to go directly."""
        proxy = self._proxies.get(url.scheme)
        if proxy is None:
            return None
        return None if proxy_bypass(f"{url.raw_host}:{url.port}") else proxy

    def authorization(self, host: str) -> str | None:
        """Return the value of Authorization that the netrc file has for ``host``."""
        entry = None if self._netrc is None else self._netrc.authenticators(host)
        if entry is None:
            return None
        user, account, password = entry
        return _basic(user or account or "", password or "")


_NETRC: Final = "~/.netrc"


def _read_netrc() -> netrc.netrc | None:
    named = os.environ.get("NETRC")
    try:
        path = Path(named or _NETRC).expanduser()
        return netrc.netrc(str(path))
    except (OSError, RuntimeError) as exc:  # RuntimeError: there is no home directory
        if named is None:
            return None
        raise ConfigurationError(
            "the file that NETRC names cannot be read", hint="Correct or unset the variable NETRC"
        ) from exc
    except netrc.NetrcParseError as exc:
        # Its text shows the bad line, which may be a password.
        raise ConfigurationError(
            f"the netrc file is malformed in line {exc.lineno}", hint=f"Correct {path}"
        ) from None
