"""What a configuration says of an S3 store."""

from __future__ import annotations

from typing import Any, Final, Literal
from urllib.parse import urlsplit

import attrs
from cachestream.errors import ConfigurationError

__all__ = ["MIB", "S3Options"]

MIB: Final = 1024 * 1024


def _at_least(least: float) -> Any:
    """Return a validator of numbers."""

    def check(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
        if value < least:
            raise ConfigurationError(f"{attribute.name} must be at least {least:g}, not {value:g}")

    return check


def _not_empty(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
    if not value:
        raise ConfigurationError(f"{attribute.name} must not be empty")


@attrs.frozen(kw_only=True)
class S3Options:
    """Where the bucket is, who may enter it, and how much is done at a time.

    Credentials and region that are not given are those of the environment: the variables
    ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN`` and
    ``AWS_REGION``, or the role of the machine.

    Raises:
        ConfigurationError: If a value is out of bounds, or two contradict each other.
    """

    bucket: str = attrs.field(validator=_not_empty, metadata={"help": "name of the bucket"})
    prefix: str = attrs.field(
        default="cachestream",
        metadata={"help": "beginning of the names of all objects; stores with one prefix share"},
    )
    endpoint: str | None = attrs.field(
        default=None, metadata={"help": "URL of the service, for others than Amazon's"}
    )
    region: str | None = attrs.field(
        default=None, metadata={"help": "region of the bucket; else AWS_REGION, else us-east-1"}
    )
    access_key_id: str | None = attrs.field(
        default=None, metadata={"help": "who signs the requests; else AWS_ACCESS_KEY_ID"}
    )
    secret_access_key: str | None = attrs.field(
        default=None,
        repr=False,
        metadata={
            "help": "what signs the requests; else AWS_SECRET_ACCESS_KEY",
            "secret": True,
        },
    )
    session_token: str | None = attrs.field(
        default=None,
        repr=False,
        metadata={
            "help": "token of temporary credentials; else AWS_SESSION_TOKEN",
            "secret": True,
        },
    )
    allow_http: bool = attrs.field(
        default=False, metadata={"help": "allow an endpoint without TLS"}
    )
    path_style: bool = attrs.field(
        default=True,
        metadata={"help": "name the bucket in the path of URLs, not in their host"},
    )
    swap: Literal["if-match", "create"] = attrs.field(
        default="if-match",
        metadata={
            "help": "how heads are swapped: `if-match` where a PUT honours If-Match, `create` "
            "where it honours If-None-Match alone"
        },
    )
    span_size: int = attrs.field(
        default=4 * MIB,
        validator=_at_least(4096),
        metadata={
            "help": "most bytes of one object; a writer keeps three of them in memory",
            "unit": "bytes",
        },
    )
    read_ahead: int = attrs.field(
        default=MIB,
        validator=_at_least(0),
        metadata={"help": "bytes that are read beyond those asked for", "unit": "bytes"},
    )
    read_cache: int = attrs.field(
        default=64 * MIB,
        validator=_at_least(0),
        metadata={"help": "bytes kept in memory after they were read or written", "unit": "bytes"},
    )
    max_requests: int = attrs.field(
        default=16,
        validator=_at_least(1),
        metadata={"help": "requests to the bucket at a time"},
    )
    timeout: float = attrs.field(
        default=30.0,
        validator=_at_least(0.1),
        metadata={"help": "limit of one request", "unit": "seconds"},
    )
    retries: int = attrs.field(
        default=5,
        validator=_at_least(0),
        metadata={"help": "how often a request that failed is made again"},
    )
    remove_after: float = attrs.field(
        default=3600.0,
        validator=_at_least(0),
        metadata={
            "help": "age at which objects that no head names are removed; other nodes may read "
            "them until then",
            "unit": "seconds",
        },
    )

    def __attrs_post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ConfigurationError("access_key_id and secret_access_key belong together")
        if self.session_token is not None and self.access_key_id is None:
            raise ConfigurationError("a session_token needs access_key_id and secret_access_key")
        if self.swap not in ("if-match", "create"):
            raise ConfigurationError(f"swap is if-match or create, not {self.swap!r}")
        if self.endpoint is not None:
            self._check_endpoint(self.endpoint)

    def _check_endpoint(self, endpoint: str) -> None:
        try:
            parts = urlsplit(endpoint)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            usable = False
        if not usable:
            raise ConfigurationError(
                f"endpoint {endpoint!r} is no URL of a service",
                hint="Write it as https://s3.example.net.",
            )
        if parts.scheme == "http" and not self.allow_http:
            raise ConfigurationError(
                f"endpoint {endpoint!r} is not encrypted",
                hint="Set allow_http if that is meant.",
            )

    @property
    def place(self) -> str:
        """The place as it is shown, and as stores that share it know it."""
        service = "" if self.endpoint is None else f" at {self.endpoint.rstrip('/')}"
        return f"s3://{self.bucket}/{self.prefix.strip('/')}{service}"
