"""The few requests that a store makes, and their failures in words of cachestream."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import attrs
import obstore
from cachestream.errors import ConfigurationError, StoreError
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotModifiedError,
    PreconditionError,
)
from obstore.store import S3Store as Bucketful

from cachestream_s3._options import S3Options

__all__ = ["Bucket", "ConflictError", "Found", "Listed"]

_ANSWER: Final = re.compile(
    r"status code: (?P<status>\d{3})(?:.*?<Code>(?P<code>[^<]*)</Code>)?"
    r"(?:.*?<Message>(?P<message>[^<]*)</Message>)?",
    re.DOTALL,
)


class ConflictError(Exception):
    """The condition of a request was not met: somebody else was first."""


@attrs.frozen
class Found:
    """An object that was read, and the entity tag it had."""

    data: bytes
    tag: str


@attrs.frozen
class Listed:
    """An object in a listing; the time is that of the service."""

    name: str
    tag: str
    modified: float
    size: int


class Bucket:
    """A prefix in a bucket.

    Raises:
        ConfigurationError: If the client cannot be made of these options.
    """

    def __init__(self, options: S3Options) -> None:
        self.place = options.place
        config: dict[str, Any] = {
            "region": options.region,
            "endpoint": options.endpoint,
            "access_key_id": options.access_key_id,
            "secret_access_key": options.secret_access_key,
            "session_token": options.session_token,
        }
        seconds = timedelta(seconds=options.timeout)
        try:
            self._store = Bucketful(
                options.bucket,
                prefix=options.prefix.strip("/") or None,
                virtual_hosted_style_request=not options.path_style,
                client_options={
                    "allow_http": options.allow_http,
                    "timeout": seconds,
                    "connect_timeout": min(seconds, timedelta(seconds=10)),
                },
                retry_config={
                    "max_retries": options.retries,
                    "retry_timeout": seconds * (options.retries + 1),
                },
                **{name: value for name, value in config.items() if value is not None},
            )
        except (BaseError, TypeError, ValueError) as exc:
            raise ConfigurationError(f"no client for {self.place} can be made: {exc}") from exc

    async def get(self, name: str, known: str | None = None) -> Found | None:
        """Return an object, None if there is none.

        Args:
            known: The entity tag of what the caller has already.

        Raises:
            ConflictError: If the object is still ``known``.
        """
        with self._mapped(name):
            try:
                options: Any = {} if known is None else {"if_none_match": known}
                answer = await obstore.get_async(self._store, name, options=options)
                return Found(bytes(await answer.bytes_async()), answer.meta["e_tag"] or "")
            except FileNotFoundError as exc:
                self._check_bucket(exc)
                return None
            except NotModifiedError as exc:
                raise ConflictError from exc

    async def get_range(self, name: str, start: int, stop: int) -> bytes | None:
        """Return bytes of an object, as many as there are; None if there is no object."""
        with self._mapped(name):
            try:
                return bytes(
                    await obstore.get_range_async(self._store, name, start=start, end=stop)
                )
            except FileNotFoundError as exc:
                self._check_bucket(exc)
                return None
            except BaseError as exc:
                answer = _ANSWER.search(str(exc))
                if answer is not None and answer["status"] == "416":
                    return b""  # it ends before
                raise

    async def create(self, name: str, data: bytes | bytearray) -> str:
        """Write an object that is not there yet; return its entity tag.

        Raises:
            ConflictError: If it is there.
        """
        with self._mapped(name):
            try:
                result = await obstore.put_async(self._store, name, data, mode="create")
            except AlreadyExistsError as exc:
                raise ConflictError from exc
            return result["e_tag"] or ""

    async def replace(self, name: str, data: bytes, tag: str) -> str:
        """Write an object over the one with this entity tag; return the new one.

        Raises:
            ConflictError: If it is another one by now, or gone.
        """
        with self._mapped(name):
            try:
                result = await obstore.put_async(
                    self._store, name, data, mode={"e_tag": tag}, use_multipart=False
                )
            except PreconditionError as exc:
                raise ConflictError from exc
            except FileNotFoundError as exc:
                self._check_bucket(exc)
                raise ConflictError from exc
            return result["e_tag"] or ""

    async def put(self, name: str, data: bytes) -> None:
        """Write an object, whatever was there."""
        with self._mapped(name):
            await obstore.put_async(self._store, name, data)

    async def delete(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there do no harm."""
        for start in range(0, len(names), 1000):
            with self._mapped(names[start]):
                await obstore.delete_async(self._store, list(names[start : start + 1000]))

    async def list(self, prefix: str, after: str | None = None) -> AsyncGenerator[Listed, None]:
        """Yield what is below ``prefix``, in order of name; ``after`` itself is left out."""
        with self._mapped(prefix):
            async for page in obstore.list(self._store, prefix, offset=after, chunk_size=1000):
                for each in page:
                    yield Listed(
                        each["path"],
                        each["e_tag"] or "",
                        each["last_modified"].timestamp(),
                        each["size"],
                    )

    def _check_bucket(self, exc: FileNotFoundError) -> None:
        if "NoSuchBucket" in str(exc):
            raise self._error("", exc) from exc

    @contextmanager
    def _mapped(self, name: str) -> Iterator[None]:
        """Turn errors of the library into `StoreError`."""
        try:
            yield
        except (BaseError, OSError) as exc:
            raise self._error(name, exc) from exc

    def _error(self, name: str, exc: Exception) -> StoreError:
        """Say what happened at which place, and what to do; the library says far more."""
        text = str(exc)
        answer = _ANSWER.search(text)
        at = f"{name} in {self.place}" if name else self.place
        if answer is None:
            reason = text.partition("Debug source")[0].strip().replace("\n", " ")
            return StoreError(
                f"the object store did not answer for {at}: {reason}",
                hint="Check the endpoint and the network.",
            )
        status, code = answer["status"], answer["code"] or ""
        said = f"{status} {code}".strip()
        if answer["message"]:
            said += f": {answer['message']}"
        hint = None
        if code == "NoSuchBucket":
            hint = "Create the bucket, or check its name and region; a store makes none."
        elif status in ("401", "403"):
            hint = "Check the credentials, the region, and what their owner may do."
        elif status == "501":
            hint = 'This service has no If-Match on PUT: set the option swap to "create".'
        return StoreError(f"the object store refused {at} ({said})", hint=hint)
