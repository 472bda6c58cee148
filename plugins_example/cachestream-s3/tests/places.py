"""Places for the store on real and pretended services, with a back door that is no store."""

from __future__ import annotations

import json
import random
import time
from datetime import timedelta

import attrs
import obstore
from cachestream.abc import Key, Store
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from obstore.store import S3Store as Bucketful

from cachestream_s3 import S3Options, S3Store
from cachestream_s3._sharing import Sharing

KIB = 1024
MIB = 1024 * KIB
PATIENCE_S = 60.0
SOURCE = "https://example.com/a.mp4"
KEY = Key(SOURCE)


class S3Place:
    """A prefix in a bucket, and the stores opened at it."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self.stores: list[S3Store] = []
        self.door = Bucketful(
            options.bucket,
            prefix=options.prefix,
            endpoint=options.endpoint,
            region=options.region,
            access_key_id=options.access_key_id,
            secret_access_key=options.secret_access_key,
            client_options={"allow_http": True},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
        )

    def store(self, *, max_size=None, clock=None, **changes) -> S3Store:
        """Return a new store here."""
        extra = {} if clock is None else {"clock": clock}
        store = S3Store(attrs.evolve(self.options, **changes), max_size=max_size, **extra)
        self.stores.append(store)
        return store

    def sweeping(self) -> S3Store:
        """Return a store that removes at once what no head names.

        Services tell times in whole seconds, some of them rounded up.
        """
        return self.store(remove_after=0, clock=lambda: time.time() + 10)

    def node(self, **changes) -> S3Store:
        """Return a store that knows nothing of the others in this process."""
        store = self.store(**changes)
        store.shared = Sharing()
        return store

    async def open(self, *, max_size: int | None = None) -> Store:
        return self.store(max_size=max_size)

    async def crash(self) -> None:
        for store in self.stores:
            await store.abandon()

    def raw(self, entry_id: str) -> RawEntry:
        return RawEntry(self, entry_id)

    # -- without the help of a store -------------------------------------

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all objects."""
        return sorted(each["path"] for page in obstore.list(self.door, folder) for each in page)

    def get(self, name: str) -> bytes:
        """Return an object."""
        return bytes(obstore.get(self.door, name).bytes())

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        obstore.put(self.door, name, data)

    def remove(self, *names: str) -> None:
        """Remove objects."""
        obstore.delete(self.door, list(names))

    def head(self, key_hash: str) -> dict:
        """Return what the head of a key says."""
        revisions = self.names(f"heads/{key_hash}/") or [f"heads/{key_hash}"]
        return json.loads(self.get(revisions[-1]))


class RawEntry:
    """The objects of an entry."""

    def __init__(self, place: S3Place, entry_id: str) -> None:
        self.place, self.entry_id = place, entry_id

    def at(self, position: int) -> tuple[int, str]:
        """Return start and name of the object that has a byte."""
        entries = self.place.head(self.entry_id[:32])["entries"]
        (entry,) = [each for each in entries if each["entry_id"] == self.entry_id]
        for start, stop, digest, nonce, _, live in entry["parts"]:
            if any(first <= position < last for first, last in live):
                return start, f"data/{self.entry_id}/{start}-{stop}-{digest}-{nonce}"
        raise AssertionError(f"byte {position} is in no object")

    def read(self, span: Span) -> bytes:
        data = b""
        while len(data) < len(span):
            position = span.start + len(data)
            start, name = self.at(position)
            data += self.place.get(name)[position - start : span.stop - start]
        return data

    def corrupt(self, position: int) -> None:
        start, name = self.at(position)
        data = bytearray(self.place.get(name))
        data[position - start] ^= 1
        self.place.put(name, bytes(data))


async def put(store, data: bytes, *, key: str = SOURCE, length: int | None = None, position=0):
    """Store and publish bytes of a resource; return the identifier of the entry."""
    known = Representation(complete_length=length or len(data))
    entry = await store.create(Key(key), key, known)
    entry.writer(position).write(data)
    await entry.publish()
    await entry.aclose()
    return entry.entry_id


def content(length: int, seed: int = 0) -> bytes:
    """Return bytes that are the same each time."""
    return random.Random(seed).randbytes(length)
