"""Two ways to swap a head for a new one only if nobody else did meanwhile.

`IfMatchSwaps` keeps a head in one object and replaces it by its entity tag (``If-Match``),
as Amazon S3 and most services can. `CreateSwaps` is for services whose PUT honours only
``If-None-Match: *``: each revision is a new object with the next number, which one writer
alone can create; the highest number counts.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Final

import attrs

from cachestream_s3._bucket import Bucket, ConflictError

__all__ = ["CreateSwaps", "IfMatchSwaps", "Swaps", "Version"]

_TIDY_EVERY: Final = 8
"""After so many revisions, those that are old enough are removed."""

_KEPT_S: Final = 300.0
"""A revision is removed when one so much newer is there, by the clock of the service."""

_OLD_S: Final = 60.0
"""Creating the next number must not take longer, from reading the last one on; else it has to
be shown that no higher one is there. Whoever was asleep for longer than `_KEPT_S` might create
a number that had been created and removed meanwhile; a fifth of that is far enough from it."""

_HASH: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NUMBER: Final = re.compile(r"([0-9a-f]{32})/([0-9a-f]{12})", re.ASCII)


@attrs.frozen
class Version:
    """One revision of a head: what it says, and what to swap it by."""

    data: bytes
    token: str
    read: float = attrs.field(factory=time.monotonic, eq=False)


class Swaps(ABC):
    """Reads heads, and swaps them."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    @abstractmethod
    async def read(self, key_hash: str, known: str | None = None) -> Version | None:
        """Return the head of a key, None if there is none.

        Args:
            known: The token of what the caller has already.

        Raises:
            ConflictError: If the head is still the ``known`` one.
        """

    async def fetch(self, key_hash: str, token: str) -> Version | None:
        """Return the head that a listing spoke of, or a later one."""
        return await self.read(key_hash)

    @abstractmethod
    async def swap(self, key_hash: str, old: Version | None, data: bytes) -> Version:
        """Write a head in the place of ``old``; None for one that was not there.

        Raises:
            ConflictError: If ``old`` is not the head any more.
        """

    @abstractmethod
    def list(self, after: str | None = None) -> AsyncGenerator[tuple[str, str], None]:
        """Yield the hash of each key and the token of its head, in order of hash.

        Args:
            after: Names below this beginning of a hash are left out.
        """


class IfMatchSwaps(Swaps):
    """One object a head, replaced by its entity tag."""

    async def read(self, key_hash: str, known: str | None = None) -> Version | None:
        """Return the head; a known one costs no transfer."""
        found = await self._bucket.get(f"heads/{key_hash}", known)
        return None if found is None else Version(found.data, found.tag)

    async def swap(self, key_hash: str, old: Version | None, data: bytes) -> Version:
        """Write the head with If-Match, or If-None-Match where there was none."""
        name = f"heads/{key_hash}"
        if old is None:
            return Version(data, await self._bucket.create(name, data))
        return Version(data, await self._bucket.replace(name, data, old.token))

    async def list(self, after: str | None = None) -> AsyncGenerator[tuple[str, str], None]:
        """Yield what a listing says."""
        start = None if after is None else f"heads/{after}"
        async for each in self._bucket.list("heads/", start):
            key_hash = each.name.removeprefix("heads/")
            if _HASH.fullmatch(key_hash):
                yield key_hash, each.tag


class CreateSwaps(Swaps):
    """A row of immutable revisions, each created once."""

    async def read(self, key_hash: str, known: str | None = None) -> Version | None:
        """Return the revision with the highest number."""
        # It may be removed between the listing and the reading, when newer ones are there.
        for _ in range(_TIDY_EVERY):
            started = time.monotonic()
            revisions = await self._revisions(key_hash)
            if not revisions:
                return None
            token = f"{max(revisions):012x}"
            if token == known:
                raise ConflictError
            found = await self._bucket.get(f"heads/{key_hash}/{token}")
            if found is not None:
                return Version(found.data, token, started)
        raise ConflictError

    async def fetch(self, key_hash: str, token: str) -> Version | None:
        """Return the revision that a listing spoke of without another listing."""
        started = time.monotonic()
        found = await self._bucket.get(f"heads/{key_hash}/{token}")
        return await self.read(key_hash) if found is None else Version(found.data, token, started)

    async def _revisions(self, key_hash: str) -> dict[int, float]:
        """Return the numbers that are there, and when each was written."""
        found = {}
        async for each in self._bucket.list(f"heads/{key_hash}/"):
            match = _NUMBER.fullmatch(each.name.removeprefix("heads/"))
            if match is not None:
                found[int(match[2], 16)] = each.modified
        return found

    async def swap(self, key_hash: str, old: Version | None, data: bytes) -> Version:
        """Create the next number."""
        started = time.monotonic() if old is None else old.read
        if time.monotonic() - started > _OLD_S:
            raise ConflictError
        number = 1 if old is None else int(old.token, 16) + 1
        await self._bucket.create(f"heads/{key_hash}/{number:012x}", data)
        late = time.monotonic() - started > _OLD_S
        if late or number % _TIDY_EVERY == 0:
            revisions = await self._revisions(key_hash)
            if late and max(revisions) > number:
                raise ConflictError
            newest = max(revisions.values(), default=0.0)
            await self._bucket.delete(
                [
                    f"heads/{key_hash}/{each:012x}"
                    for each, written in revisions.items()
                    if each < number and written < newest - _KEPT_S
                ]
            )
        return Version(data, f"{number:012x}")

    async def list(self, after: str | None = None) -> AsyncGenerator[tuple[str, str], None]:
        """Yield the highest number of each key."""
        start = None if after is None else f"heads/{after}"
        last: tuple[str, str] | None = None
        async for each in self._bucket.list("heads/", start):
            found = _NUMBER.fullmatch(each.name.removeprefix("heads/"))
            if found is None:
                continue
            if last is not None and last[0] != found[1]:
                yield last
            last = (found[1], found[2])
        if last is not None:
            yield last
