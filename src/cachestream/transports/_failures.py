"""Maps what aiohttp, ssl and the system raise to our own errors.

Messages are made here and not taken over: aiohttp's hold whole URLs, whose query may be
a signature. For the same reason the cause that is chained is never one of those.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Final

import aiohttp

from cachestream.core.urls import display
from cachestream.errors import (
    CacheStreamError,
    ConnectError,
    InvalidURLError,
    TLSError,
    TransportError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
)

__all__ = ["FAILURES", "FramingError", "SeveredError", "cause_of", "translate", "translate_content"]

FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError, UnicodeError)
"""What an exchange can raise, besides mistakes of ours."""


class SeveredError(aiohttp.ClientError):
    """A connection that was made for this exchange ended before the head came."""


class FramingError(aiohttp.ClientPayloadError):
    """The connection ended, but content did not: what came could not be parsed."""


# The verify codes of OpenSSL (X509_V_ERR_…) that have a remedy of their own.
_CERTIFICATE: Final = {
    9: ("is not valid yet", "Check this machine's clock"),
    10: ("has expired", "The origin must renew it; check this machine's clock too"),
    18: ("is self-signed", "Trust it with ca_file"),
    19: ("comes from an unknown authority", "Trust that authority with ca_file"),
    20: ("comes from an unknown authority", "Trust that authority with ca_file"),
    21: ("comes from an unknown authority", "Trust that authority with ca_file"),
    62: ("is for another host", "Check the host name of the URL"),
    64: ("is for another address", "Use the host name that the certificate is for"),
}


def cause_of(error: BaseException) -> BaseException | None:
    """Return what to chain: ``error``, or its own cause where it shows a URL."""
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL | SeveredError):
        return error.__cause__
    if isinstance(error, aiohttp.ServerTimeoutError):
        return error.__cause__
    return error


def translate(error: BaseException, url: str) -> CacheStreamError:
    """Return our error for what went wrong while the head was awaited."""
    shown = display(url)
    if isinstance(error, SeveredError):
        return _severed(error.__cause__, shown)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return _certificate(error.certificate_error, shown)
        case aiohttp.ClientSSLError():
            return _handshake(error.os_error, shown)
        case aiohttp.ClientProxyConnectionError():
            return ConnectError(
                f"the proxy cannot be reached: {_reason(error.os_error)}",
                url=shown,
                hint="Check the setting proxy",
            )
        case aiohttp.ClientConnectorError():
            return _connecting(error, shown)
        case aiohttp.ClientHttpProxyError():
            return ConnectError(
                f"the proxy refused the connection with status {error.status}",
                url=shown,
                hint="Check the setting proxy and its user name and password"
                if error.status in {401, 403, 407}
                else None,
            )
        case aiohttp.ConnectionTimeoutError():
            return UpstreamTimeoutError(
                "connecting to the origin took too long", url=shown, hint="See connect_timeout"
            )
        case TimeoutError():
            return UpstreamTimeoutError(
                "the origin did not answer in time", url=shown, hint="See read_timeout"
            )
        case aiohttp.InvalidURL() | UnicodeError():
            return InvalidURLError("the URL cannot be asked", url=shown)
        case aiohttp.ClientResponseError():
            return _not_http(error, shown)
    return _severed(error, shown)


def translate_content(error: BaseException, url: str) -> CacheStreamError:
    """Return our error for what went wrong while content was awaited."""
    shown = display(url)
    if isinstance(error, TimeoutError):
        return UpstreamTimeoutError(
            "the origin fell silent in mid-content", url=shown, hint="See read_timeout"
        )
    if isinstance(error, FramingError):
        return UpstreamProtocolError("the content is not framed as HTTP demands", url=shown)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientConnectionError | OSError):
        return TransportError("the content ended before its end", url=shown)
    return UpstreamProtocolError("the content is not framed as HTTP demands", url=shown)


def _reason(error: OSError | None) -> str:
    if error is None:
        return "unknown reason"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def _connecting(error: aiohttp.ClientConnectorError, shown: str) -> ConnectError:
    cause = error.os_error
    if isinstance(error, aiohttp.ClientConnectorDNSError) or isinstance(cause, socket.gaierror):
        return ConnectError(
            f"the host name {error.host!r} cannot be resolved",
            url=shown,
            hint="Check its spelling and the network",
        )
    hint = "Check that the origin is running and the port is right"
    return ConnectError(
        f"no connection to the origin: {_reason(cause)}",
        url=shown,
        hint=hint if isinstance(cause, ConnectionRefusedError) else None,
    )


def _certificate(error: BaseException, shown: str) -> TLSError:
    code = getattr(error, "verify_code", None)
    fallback = (f"was refused ({getattr(error, 'verify_message', error)})", None)
    problem, hint = _CERTIFICATE.get(code, fallback) if code is not None else fallback
    return TLSError(f"the origin's certificate {problem}", url=shown, hint=hint)


def _handshake(error: BaseException | None, shown: str) -> TLSError:
    reason = getattr(error, "reason", None) or type(error).__name__
    hint = None
    if "CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason:
        hint = "The origin may want a client certificate: see client_cert and client_key"
    elif reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        hint = "It seems to speak plain HTTP: try http:// instead of https://"
    return TLSError(f"the TLS handshake failed ({reason})", url=shown, hint=hint)


def _severed(error: BaseException | None, shown: str) -> TransportError:
    tls = error if isinstance(error, ssl.SSLError) else getattr(error, "__cause__", None)
    if isinstance(tls, ssl.SSLError):
        # TLS 1.3 refuses a client's certificate only after the handshake.
        return _handshake(tls, shown)
    # Some servers refuse a missing client certificate without a word.
    hint = "See client_cert if it wants a certificate" if shown.startswith("https:") else None
    return TransportError(
        "the origin closed the connection before it answered", url=shown, hint=hint
    )


def _not_http(error: aiohttp.ClientResponseError, shown: str) -> UpstreamProtocolError:
    if "Got more than" in error.message or "Too many" in error.message:
        return UpstreamProtocolError("the head of the origin's answer is too large", url=shown)
    return UpstreamProtocolError(
        "the origin's answer is not HTTP",
        url=shown,
        hint="Check the scheme and the port of the URL",
    )
