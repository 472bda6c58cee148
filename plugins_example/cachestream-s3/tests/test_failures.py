"""What goes wrong says so, names the place, and costs no byte that was right."""

from __future__ import annotations

import asyncio
import socket

import attrs
import pytest
from cachestream.core.representation import Representation
from cachestream.core.spans import Span
from cachestream.errors import (
    ClosedError,
    ConfigurationError,
    NotStoredError,
    StoreError,
)

from cachestream_s3 import S3Options, S3Store
from places import KEY, KIB, SOURCE, S3Place, content, put


async def fails(options, match, *, writing=False):
    """Check that looking, and writing, at a place fails with this error."""
    store = S3Store(options)
    try:
        with pytest.raises(StoreError, match=match) as caught:
            if writing:
                await put(store, b"abc")
            else:
                await store.select(KEY)
    finally:
        await store.abandon()
    text = str(caught.value)
    assert f"s3://{options.bucket}/some/where at {options.endpoint}" in text
    assert "Debug source" not in text
    return text


@pytest.mark.asyncio
@pytest.mark.parametrize("writing", [False, True])
async def test_wrong_credentials_are_told_as_such(swift_options, writing):
    """The service's own words are in the error, and what to check; the secret is not."""
    options = attrs.evolve(swift_options, secret_access_key="guessed")
    text = await fails(options, r"refused .*403 SignatureDoesNotMatch", writing=writing)
    assert "Check the credentials" in text
    assert "guessed" not in text
    assert "guessed" not in repr(options)


@pytest.mark.asyncio
@pytest.mark.parametrize("writing", [False, True])
async def test_a_bucket_that_is_not_there_is_named_and_not_made(swift, swift_options, writing):
    """A mistyped name is an error, and nobody's new bucket."""
    options = attrs.evolve(swift_options, bucket="mistyped-name")
    text = await fails(options, r"404 NoSuchBucket", writing=writing)
    assert "Create the bucket" in text
    buckets = swift.request("GET")[2].decode().split()
    assert swift_options.bucket in buckets
    assert "mistyped-name" not in buckets


@pytest.mark.asyncio
async def test_an_endpoint_where_nobody_listens_is_an_error(swift_options):
    """No wait is without limit, and the error says what to check."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    options = attrs.evolve(swift_options, endpoint=f"http://127.0.0.1:{port}", retries=1)
    text = await fails(options, "did not answer")
    assert "Check the endpoint" in text


@pytest.mark.asyncio
async def test_an_endpoint_that_is_silent_is_given_up(swift_options):
    """A service that takes connections and says nothing costs the timeout, and no more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        options = attrs.evolve(swift_options, endpoint=endpoint, timeout=0.5, retries=0)
        await fails(options, "did not answer")


@pytest.mark.asyncio
async def test_a_service_without_if_match_is_told_apart(swift_options):
    """The error of the default way to swap says which other way there is."""
    options = attrs.evolve(swift_options, swap="if-match", retries=0)
    store = S3Store(options)
    entry = await store.create(KEY, SOURCE, Representation(complete_length=3))
    await entry.publish()
    with pytest.raises(StoreError, match=r'501 .*swap to "create"'):
        await store.touch(entry.entry_id, pinned=True)
    await store.abandon()


# ---------------------------------------------------------------------------
# Crashes
# ---------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_crash_between_data_and_head_leaves_a_hole(any_place):
    """Objects that were put but never named are no bytes of the entry, and are removed."""
    data = content(256 * KIB)
    store = any_place.store()
    entry_id = await put(store, data[: 64 * KIB], length=len(data))
    entry = await store.open(entry_id)
    writer = entry.writer(64 * KIB)
    writer.write(data[64 * KIB :])
    await writer.flush()
    assert len(any_place.names(f"data/{entry_id}")) == 4
    await store.abandon()

    async with any_place.sweeping() as later:
        entry = await later.open(entry_id)
        assert list(entry.spans) == [Span(0, 64 * KIB)]
        with pytest.raises(NotStoredError):
            await entry.read(Span(0, len(data)))
        assert await entry.read(Span(0, 64 * KIB)) == data[: 64 * KIB]
        # While it is open, somebody may be about to name what is there.
        assert await later.collect() == 0
        await entry.aclose()
        assert await later.collect() == 3
        assert len(any_place.names(f"data/{entry_id}")) == 1
        entry = await later.open(entry_id)
        entry.writer(64 * KIB).write(data[64 * KIB :])
        await entry.aclose()
        entry = await later.open(entry_id)
        assert await entry.read(Span(0, len(data))) == data


@pytest.mark.asyncio
async def test_objects_of_an_entry_that_was_never_published_are_removed(place):
    """What a crash leaves of a download that had hardly begun is found by its note alone."""
    store = place.store()
    entry = await store.create(KEY, SOURCE, Representation(complete_length=100 * KIB))
    writer = entry.writer(0)
    writer.write(content(100 * KIB))
    await writer.flush()
    await store.abandon()
    assert len(place.names("data")) == 2
    async with place.sweeping() as later:
        assert await later.collect() == 2
        assert place.names() == []
        assert await later.collect() == 0


@pytest.mark.asyncio
async def test_young_objects_are_left_to_whoever_may_be_about_to_name_them(place):
    """Nothing is removed before it is as old as the option says."""
    store = place.store()
    entry = await store.create(KEY, SOURCE, Representation(complete_length=3))
    writer = entry.writer(0)
    writer.write(b"abc")
    await writer.flush()
    await store.abandon()
    async with place.store(remove_after=3600) as later:
        assert await later.collect() == 0
        assert len(place.names("data")) == 1
        assert len(place.names("sweep")) == 1
    async with place.sweeping() as later:
        assert await later.collect() == 1


@pytest.mark.asyncio
async def test_deleted_and_superseded_entries_leave_nothing(place):
    """Once collected, nothing is left of what no head names but the small heads."""
    async with place.sweeping() as store:
        await put(store, content(100 * KIB))
        second = await put(store, content(100 * KIB, 2))
        await store.collect()
        assert {name.split("/")[1] for name in place.names("data")} == {second}
        await store.delete(second)
        await store.collect()
        assert place.names("data") == place.names("sweep") == []


@pytest.mark.asyncio
async def test_a_failed_upload_is_forgotten_and_raised(place, monkeypatch):
    """Bytes that could not be put are a hole again; the next writer can fill it."""
    async with place.store() as store:
        entry_id = await put(store, b"abc", length=6)
        entry = await store.open(entry_id)
        plain = store.bucket.create

        async def create(name, data):
            if name.startswith("data/"):
                raise StoreError("the bucket is on fire")
            return await plain(name, data)

        monkeypatch.setattr(store.bucket, "create", create)
        writer = entry.writer(3)
        writer.write(b"def")
        with pytest.raises(StoreError, match="on fire"):
            await writer.commit()
        assert list(entry.spans) == [Span(0, 3)]
        monkeypatch.undo()
        with pytest.raises(StoreError, match="on fire"):
            await writer.aclose()
        again = entry.writer(3)
        again.write(b"def")
        await again.aclose()
        assert await entry.read(Span(0, 6)) == b"abcdef"


@pytest.mark.asyncio
async def test_a_close_that_was_cancelled_can_be_repeated(place, monkeypatch):
    """Nothing that was written is lost because somebody did not wait for the end."""
    async with place.store() as store:
        entry = await store.create(KEY, SOURCE, Representation(complete_length=6))
        await entry.publish()
        writer = entry.writer(0)
        writer.write(b"abcdef")
        arrived, go_on = asyncio.Event(), asyncio.Event()
        plain = store.bucket.create

        async def create(name, data):
            arrived.set()
            await go_on.wait()
            return await plain(name, data)

        monkeypatch.setattr(store.bucket, "create", create)
        for closing in (writer.aclose, entry.aclose):
            attempt = asyncio.ensure_future(closing())
            await arrived.wait()
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
        go_on.set()
        await entry.aclose()
        assert (await store.select(KEY))[0].complete
        again = await store.open(entry.entry_id)
        assert again.writable
        assert await again.read(Span(0, 6)) == b"abcdef"


@pytest.mark.asyncio
async def test_a_head_of_another_release_is_a_miss_and_stays(any_place):
    """What cannot be understood is neither believed nor written over."""
    async with any_place.store() as store:
        await put(store, b"abc")
    name = any_place.names("heads")[-1]
    any_place.put(name, b'{"format": 99}')
    async with any_place.store() as store:
        assert await store.select(KEY) == ()
        assert await store.records() == ()
        entry = await store.create(KEY, SOURCE, Representation(complete_length=3))
        with pytest.raises(StoreError, match="another program or release"):
            await entry.publish()
        await entry.aclose()
    assert any_place.get(name) == b'{"format": 99}'


@pytest.mark.asyncio
async def test_nothing_runs_and_nothing_is_taken_after_the_end(place):
    """A closed store has no task, and says that it is closed."""
    store = place.store()
    entry = await store.create(KEY, SOURCE, Representation(complete_length=3))
    writer = entry.writer(0)
    writer.write(b"abc")
    await entry.publish()
    await store.aclose()
    assert not store._tasks
    for act in (lambda: writer.write(b"d"), lambda: entry.read_nowait(Span(0, 1))):
        with pytest.raises(ClosedError):
            act()
    with pytest.raises(ClosedError):
        await store.usage()
    async with place.store() as again:
        assert (await again.select(KEY))[0].complete


# ---------------------------------------------------------------------------
# Options
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"bucket": ""}, "bucket must not be empty"),
        ({"access_key_id": "me"}, "belong together"),
        ({"session_token": "t"}, "needs access_key_id"),
        ({"swap": "hope"}, "if-match or create"),
        ({"span_size": 1}, "span_size must be at least 4096"),
        ({"timeout": 0}, "timeout must be at least"),
        ({"endpoint": "s3.example.net"}, "no URL of a service"),
        ({"endpoint": "http://[::1"}, "no URL of a service"),
        ({"endpoint": "http://s3.example.net"}, "not encrypted"),
    ],
)
def test_what_cannot_be_is_refused(changes, match):
    """A wrong option is a wrong setting, and says which."""
    with pytest.raises(ConfigurationError, match=match):
        S3Options(**{"bucket": "films"} | changes)


def test_a_negative_limit_is_refused():
    """The limit of a store is a number of bytes."""
    with pytest.raises(ConfigurationError, match="max_size"):
        S3Store(S3Options(bucket="films"), max_size=-1)


@pytest.mark.asyncio
async def test_credentials_come_from_the_environment(swift_options, monkeypatch):
    """Where the options name nobody, the usual variables do."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", swift_options.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", swift_options.secret_access_key)
    monkeypatch.setenv("AWS_REGION", swift_options.region)
    options = attrs.evolve(swift_options, access_key_id=None, secret_access_key=None, region=None)
    async with S3Store(options) as store:
        await put(store, b"abc")
    assert S3Place(swift_options).names("data")
