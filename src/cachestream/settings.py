"""All settings, as two frozen values with one line of help and a unit for each field.

`StreamSettings` are those that a single stream may have for itself; `Settings` adds
those of the whole manager. Command-line flags and the table in the docs are made from
the metadata of these fields, so each is described once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import platformdirs

from cachestream.errors import ConfigurationError

__all__ = ["KIB", "MIB", "Settings", "StreamSettings", "default_cache_dir", "describe"]

KIB = 1024
MIB = 1024 * KIB

Completion: TypeAlias = Literal["auto", "complete", "ahead", "demand"]
Validation: TypeAlias = Literal["never", "stale", "always"]
Durability: TypeAlias = Literal["process", "power"]
FileResolver: TypeAlias = Callable[[str], "str | Path | None"]


def default_cache_dir() -> Path:
    """Return the directory that `cachestream.CacheManager` uses when none is named."""
    return platformdirs.user_cache_path("cachestream")


def _setting(
    default: Any, help: str, unit: str = "", *, check: Any = None, secret: bool = False
) -> Any:
    """Define a field: its default, one line of help, and the unit of its value."""
    return attrs.field(
        default=default,
        validator=check or [],
        metadata={"help": help, "unit": unit, "secret": secret},
    )


def _fail(attribute: attrs.Attribute[Any], value: object, rule: str) -> None:
    raise ConfigurationError(
        f"setting {attribute.name}={value!r} is wrong: it must be {rule}",
        hint=_sentence(str(attribute.metadata.get("help", ""))),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _at_least(low: float, *, optional: bool = False) -> Any:
    def check(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= low:
            _fail(
                attribute, value, f"a number of at least {low}" + (" or none" if optional else "")
            )

    return check


def _one_of(*choices: str) -> Any:
    def check(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in choices:
            _fail(attribute, value, "one of " + ", ".join(choices))

    return check


def _port(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        _fail(attribute, value, "a port between 0 and 65535 (0 for any free one)")


def _optional_port(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        _port(instance, attribute, value)


def _threshold(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value == "adaptive" or value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _fail(attribute, value, "a number of bytes, adaptive or none")


@attrs.frozen(kw_only=True)
class StreamSettings:
    """Settings that each stream may have for itself; the manager's are the default."""

    request_headers: Mapping[str, str] = _setting(
        attrs.Factory(dict), "fields sent to the origin with every request", secret=True
    )
    response_headers: Mapping[str, str] = _setting(
        attrs.Factory(dict), "fields added to every local answer; they win over copied ones"
    )
    forward_fields: tuple[str, ...] = _setting(
        (), "client fields passed on to the origin (User-Agent, Referer, …)"
    )
    copy_cached_response_headers: bool = _setting(
        False, "copy all stored fields of the origin to local answers"
    )
    save_all_headers: bool = _setting(
        True, "store all harmless fields, not just the essential ones"
    )
    validation: Validation = _setting(
        "never",
        "when stored answers are checked at the origin",
        check=_one_of("never", "stale", "always"),
    )
    completion: Completion = _setting(
        "auto",
        "what is fetched beyond what was asked for",
        check=_one_of("auto", "complete", "ahead", "demand"),
    )
    read_ahead: int = _setting(
        MIB, "how far before a reader's position is fetched at first", "bytes", check=_at_least(0)
    )
    max_read_ahead: int = _setting(
        64 * MIB,
        "how far it grows while the reader goes on in sequence",
        "bytes",
        check=_at_least(0),
    )
    complete_after: int = _setting(
        4 * MIB,
        "read this much in sequence and `auto` completes the file",
        "bytes",
        check=_at_least(0),
    )
    range_request_split_threshold: int | Literal["adaptive"] | None = _setting(
        "adaptive",
        "how far past a running download a reader gets a connection of its own; none: never",
        "bytes",
        check=_threshold,
    )
    max_connections: int = _setting(8, "upstream connections for one source", check=_at_least(1))
    max_buffer_size: int = _setting(
        25 * MIB,
        "how far writing may lag behind all downloads, and what rings of one stream hold",
        "bytes",
        check=_at_least(MIB),
    )
    connect_timeout: float = _setting(
        10.0, "time to connect to an origin", "seconds", check=_at_least(0.001)
    )
    read_timeout: float = _setting(
        30.0,
        "silence of an origin after which a connection is given up",
        "seconds",
        check=_at_least(0.001),
    )
    request_timeout: float = _setting(
        60.0,
        "time without progress after which a waiting request fails",
        "seconds",
        check=_at_least(0.001),
    )
    max_wait: float | None = _setting(
        None,
        "time a request may wait in all for its next byte",
        "seconds",
        check=_at_least(0.001, optional=True),
    )
    retry_delay: float = _setting(
        0.5, "first pause before a retry; doubled each time", "seconds", check=_at_least(0)
    )
    max_retry_delay: float = _setting(
        30.0, "longest pause before a retry", "seconds", check=_at_least(0)
    )
    error_ttl: float = _setting(
        2.0,
        "how long an origin's refusal is remembered against retry storms",
        "seconds",
        check=_at_least(0),
    )
    pause_after: float = _setting(
        10.0, "after the last release, downloads stop", "seconds", check=_at_least(0)
    )
    dispose_after: float = _setting(
        300.0, "after the last release, the stream is closed", "seconds", check=_at_least(0)
    )
    save_partial_cache: bool = _setting(True, "keep incomplete entries when a stream is closed")
    save_metadata: bool = _setting(
        True, "keep entries at all when a stream is closed; one with a `file` stays in either case"
    )
    trust_weak_validators: bool = _setting(
        False, "join parts of different exchanges under a weak validator or none at all"
    )
    allow_insecure_redirects: bool = _setting(False, "follow redirects from https to plain http")
    offline: bool = _setting(False, "never go upstream: serve what is held")
    on_cache_done: Callable[..., object] | None = _setting(
        None, "called with the stream and its file when a download completes"
    )


@attrs.frozen(kw_only=True)
class Settings(StreamSettings):
    """Settings of a `CacheManager`.

    Example:
        >>> Settings(completion="demand", max_size=10 * 1024 * MIB).for_stream(offline=True).offline
        True
    """

    max_host_connections: int = _setting(
        16, "upstream connections to one host, for all streams", check=_at_least(1)
    )
    read_ahead_budget: int = _setting(
        512 * MIB,
        "how far before all readers together is fetched; each gets a share, if a small one",
        "bytes",
        check=_at_least(0),
    )
    max_idle_streams: int | None = _setting(
        None,
        "streams that nobody uses and that stay open; none: as many as the limit of open files"
        " allows",
        check=_at_least(0, optional=True),
    )
    cache_dir: Path = _setting(attrs.Factory(default_cache_dir), "directory of the disk store")
    max_size: int | None = _setting(
        None, "room all entries may take", "bytes", check=_at_least(0, optional=True)
    )
    min_free: int = _setting(
        256 * MIB, "room left to others on the store's disk", "bytes", check=_at_least(0)
    )
    durability: Durability = _setting(
        "process", "what committed bytes survive", check=_one_of("process", "power")
    )
    cache_file_resolver: FileResolver | None = _setting(
        None, "maps a source URL to the file its data shall be kept in, or none"
    )
    key: Callable[[str], str] | None = _setting(
        None, "maps a source URL to its cache key; two URLs with one key are one resource"
    )
    on_stream_created: Callable[..., object] | None = _setting(
        None, "called with each new stream; its exceptions are logged"
    )

    start_server: bool = _setting(True, "listen on a local address")
    host: str = _setting("127.0.0.1", "address to listen on; a wider one needs a token")
    port: int = _setting(0, "port to listen on; 0 for any free one", check=_port)
    socket_path: str | None = _setting(
        None, "Unix socket to listen on instead of a port; `@name` for an abstract one"
    )
    socket_mode: str = _setting("0600", "permissions of that socket; 0660 lets its group in")
    socket_activation: bool = _setting(
        False, "listen on the sockets that the service manager passed, if it did"
    )
    public_url: str | None = _setting(
        None, "what local URLs begin with where a proxy stands before this"
    )
    token: str | None = _setting(None, "secret first segment of every local URL", secret=True)
    server_names: tuple[str, ...] = _setting((), "further Host values to answer to")
    allow_hosts: tuple[str, ...] = _setting(
        (), "upstream hosts any client may name (`*.example.com`, `host:port`); `any` for all"
    )
    allow_origins: tuple[str, ...] = _setting((), "web origins whose pages may read from here")
    client_idle_timeout: float | None = _setting(
        None,
        "cut a client that reads nothing for so long",
        "seconds",
        check=_at_least(0.001, optional=True),
    )
    admin_port: int | None = _setting(
        None,
        "port for health checks and metrics; 0 for any free one, none for no such port",
        check=_optional_port,
    )
    admin_host: str = _setting(
        "127.0.0.1", "address of that port; a wider one needs a token, or `admin_open`"
    )
    admin_open: bool = _setting(
        False, "show metrics without the token to whoever reaches `admin_host`"
    )

    ca_file: Path | None = _setting(
        None, "certificate authorities to trust instead of the system's"
    )
    client_cert: Path | None = _setting(None, "client certificate (PEM) for TLS origins")
    client_key: Path | None = _setting(None, "key of the client certificate", secret=True)
    verify_tls: bool = _setting(True, "check certificates of TLS origins")
    proxy: str | None = _setting(None, "HTTP proxy for all upstream requests", secret=True)
    schemes: Mapping[str, str] = _setting(
        attrs.Factory(dict), "which transport serves URLs of a scheme that several claim"
    )
    trust_env: bool = _setting(False, "take proxies and netrc from the environment")
    user_agent: str | None = _setting(None, "User-Agent sent to origins")

    def for_stream(self, **changes: Any) -> StreamSettings:
        """Return these settings for one stream, with some of them changed.

        Raises:
            ConfigurationError: If a name is unknown or a value is wrong.
        """
        known = {field.name for field in attrs.fields(StreamSettings)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ConfigurationError(f"no stream setting is called {unknown[0]!r}")
        values = {name: getattr(self, name) for name in known}
        return StreamSettings(**{**values, **changes})


def describe(cls: type[StreamSettings] = Settings) -> list[dict[str, Any]]:
    """Return one row a setting: name, type, default, unit, help and whether it is secret."""
    return [
        {
            "name": field.name,
            "type": str(field.type),
            "default": field.default.factory()
            if isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]
            else field.default,
            "unit": field.metadata["unit"],
            "help": field.metadata["help"],
            "secret": field.metadata["secret"],
        }
        for field in attrs.fields(cls)
    ]
