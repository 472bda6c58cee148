"""A download fills one hole of an entry, and nothing else."""

import pytest

from cachestream._engine.download import Download
from cachestream.abc import Key
from cachestream.backends import MemoryStore
from cachestream.core.ranges import RangeSpec
from cachestream.core.spans import Span
from cachestream.errors import (
    CacheStreamError,
    StoreError,
    TransportError,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from cachestream.events import DownloadFailed, DownloadFinished, DownloadStarted, StoreFailed
from cachestream.testing.simulation import Version

ETAG = ("ETag", '"v1"')


def part(line, content, start, stop, *fields, **more):
    """Return the right line for a part of the content."""
    told = ("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
    return line(206, (told, *(fields or (ETAG,))), content[start:stop], **more)


def test_a_whole_file_is_fetched_in_growing_bounded_parts(on_bench, content):
    """Requests are bounded, follow one another without gap or overlap, and carry If-Range."""

    async def scenario(bench):
        resource = bench.resource(completion="complete")
        assert await bench.read(None, resource) == content
        spans = [value.removeprefix("bytes=").split("-") for value in bench.asked]
        assert [int(first) for first, _ in spans] == [0, *(int(last) + 1 for _, last in spans[:-1])]
        sizes = [int(last) - int(first) + 1 for first, last in spans]
        assert max(sizes) <= 64 * 1024
        assert max(sizes) > 32 * 1024
        conditions = [request.fields.get("if-range") for request in bench.transport.asked]
        assert conditions == [None, *['"v1"'] * (len(conditions) - 1)]
        assert bench.context.counters.bytes_from_origin == len(content)
        bench.pool.release_resource(resource)

    on_bench(scenario, read_ahead=32 * 1024)


def test_a_download_stops_at_the_first_stored_byte(on_bench, content):
    """What is held is not fetched again, from whichever side the hole is reached."""

    async def scenario(bench):
        await bench.read(RangeSpec(40_000, 49_999))
        served = len(bench.origin.served)
        assert await bench.read() == content
        later = [span for _, span in bench.origin.served[served:]]
        assert not any(span.overlaps(Span(40_000, 50_000)) for span in later)
        assert sum(len(span) for _, span in bench.origin.served) == len(content)

    on_bench(scenario)


def test_a_download_resumes_at_the_first_missing_byte(on_bench, line, content):
    """After a break the next request begins where the bytes ended, and says which version."""

    async def scenario(bench):
        assert await bench.read(RangeSpec(0, 9_999)) == content[:10_000]
        assert bench.asked == ["bytes=0-9999", "bytes=3000-9999"]
        assert bench.transport.asked[1].fields.get("if-range") == '"v1"'
        assert bench.transport.asked[1].attempt == 1
        assert bench.context.counters.origin_failures == 1
        (failed,) = bench.seen(DownloadFailed)
        assert failed.retry_in is not None

    broken = line(
        206,
        (("Content-Range", "bytes 0-9999/100000"), ETAG),
        content[:3000],
        TransportError("lost"),
    )
    on_bench(scenario, script=[broken, part(line, content, 3000, 10_000)])


def test_a_part_that_ends_early_is_a_failure_and_not_an_end(on_bench, line, content):
    """A clean end before the announced one is tried again."""

    async def scenario(bench):
        assert await bench.read(RangeSpec(0, 9_999)) == content[:10_000]
        assert bench.asked == ["bytes=0-9999", "bytes=3000-9999"]

    short = line(206, (("Content-Range", "bytes 0-9999/100000"), ETAG), content[:3000])
    on_bench(scenario, script=[short, part(line, content, 3000, 10_000)])


def test_bytes_beyond_the_announced_end_are_dropped(on_bench, line, content):
    """What comes after the end of a part is no content."""

    async def scenario(bench):
        resource = bench.resource()
        assert await bench.read(RangeSpec(0, 999), resource) == content[:1000]
        assert list(resource.spans) == [Span(0, 1000)]
        bench.pool.release_resource(resource)

    long = line(206, (("Content-Range", "bytes 0-999/100000"), ETAG), content[:1000] + b"x" * 5000)
    on_bench(scenario, script=[long])


def test_an_origin_without_ranges_is_read_once_for_everybody(on_bench, content):
    """The one exchange goes on to the end, and a later range costs nothing."""

    async def scenario(bench):
        assert await bench.read(RangeSpec(90_000, 90_999)) == content[90_000:91_000]
        assert await bench.read(RangeSpec(10, 99)) == content[10:100]
        assert len(bench.asked) == 1

    on_bench(scenario, origin=lambda origin: setattr(origin, "ranges", False))


def test_a_linear_download_skips_what_is_stored(on_bench, line, content):
    """On resume the stored prefix is received again, and stored bytes are not written again."""
    whole = (("Content-Length", str(len(content))), ETAG)

    async def scenario(bench):
        resource = bench.resource()
        assert await bench.read(None, resource) == content
        assert bench.asked == ["bytes=0-4095", None]
        assert bench.context.counters.bytes_from_origin == len(content) + 5000
        bench.pool.release_resource(resource)

    broken = line(200, whole, content[:5000], TransportError("lost"))
    on_bench(scenario, script=[broken, line(200, whole, content)], read_ahead=0)


def test_a_rejected_range_of_ours_is_asked_again_without(on_bench, line, content):
    """A 416 to a range that we made up leads to one request for all."""

    async def scenario(bench):
        assert await bench.read() == content
        assert bench.asked == ["bytes=0-4095", None]

    whole = line(200, (("Content-Length", str(len(content))), ETAG), content)
    on_bench(scenario, script=[line(416), whole], read_ahead=0)


def test_parts_that_could_not_be_joined_are_not_begun(on_bench, line, content):
    """Without a strong validator the first part is thrown away for one whole exchange."""

    async def scenario(bench):
        assert await bench.read() == content
        assert bench.asked == ["bytes=0-4095", None]

    weak = ("ETag", 'W/"v1"')
    whole = line(200, (("Content-Length", str(len(content))), weak), content)
    on_bench(scenario, script=[part(line, content, 0, 4096, weak), whole], read_ahead=0)


def test_an_expired_url_is_renewed_in_mid_download(on_bench, line, content):
    """A 403 asks the transport for another URL, and the reader does not notice."""

    async def scenario(bench):
        bench.transport.renewed = "https://cdn.example/film?signature=new"
        assert await bench.read(RangeSpec(0, 7999)) == content[:8000]
        assert bench.transport.refreshed == [403]
        urls = [request.url for request in bench.transport.asked]
        assert urls[-1] == "https://cdn.example/film?signature=new"
        assert {request.source for request in bench.transport.asked} == {urls[0]}

    lines = [part(line, content, 0, 4096), line(403), part(line, content, 4096, 8000)]
    on_bench(scenario, script=lines, read_ahead=0, max_read_ahead=0)


def test_a_lie_is_an_error_after_a_few_tries_and_nothing_is_stored(on_bench, line, content):
    """A wrong Content-Range is never used."""

    async def scenario(bench):
        with pytest.raises(UpstreamProtocolError, match="Content-Range"):
            await bench.read(RangeSpec(0, 999))
        assert not await bench.store.select(Key("https://origin.example/film.mp4"))

    on_bench(scenario, script=[part(line, content, 5, 1005)] * 3)


def test_a_refusal_is_not_tried_again(on_bench, line):
    """404 is an answer, with its page."""

    async def scenario(bench):
        with pytest.raises(UpstreamStatusError) as caught:
            await bench.read()
        assert (caught.value.status, caught.value.content) == (404, b"gone")
        assert len(bench.asked) == 1

    on_bench(scenario, script=[line(404, (), b"gone")])


def test_a_failing_store_is_replaced_at_the_next_byte(on_bench, content):
    """A write that fails goes to a ring, with the bytes before it read from the store."""

    class Failing(MemoryStore):
        left = 30_000

        async def create(self, key, source, representation, *, file=None):
            entry = await super().create(key, source, representation, file=file)
            writer = entry.writer

            def failing(position):
                made = writer(position)
                write = made.write

                def limited(piece):
                    self.left -= len(piece)
                    if self.left < 0:
                        raise StoreError("the disk is gone")
                    return write(piece)

                made.write = limited
                return made

            entry.writer = failing
            return entry

    async def scenario(bench):
        assert await bench.read() == content
        assert len(bench.seen(StoreFailed)) == 1

    on_bench(scenario, store=lambda loop: Failing(clock=loop.wall_clock))


def test_events_tell_of_each_download(on_bench, content):
    """Its start with what was wanted, its end with what came."""

    async def scenario(bench):
        await bench.read(RangeSpec(0, 999))
        (started,) = bench.seen(DownloadStarted)
        (finished,) = bench.seen(DownloadFinished)
        assert started.span == Span(0, 1000)
        assert finished.received >= 1000
        assert finished.span.covers(Span(0, 1000))

    on_bench(scenario)


def test_a_download_cancelled_before_it_ran_holds_nothing(on_bench):
    """Its entry is let go, although its task never had a turn."""

    async def scenario(bench):
        await bench.read(RangeSpec(0, 999))
        resource = bench.resource()
        download = Download(resource, 99, Span(5000, 6000), resource.held)
        download.cancel()
        resource.scheduler.start(Span(6000, 7000))
        resource.pause()
        bench.pool.release_resource(resource)
        # The bench checks at its end that no entry is left open.

    on_bench(scenario)


def test_content_that_changes_restarts_readers_that_have_not_begun(on_bench):
    """A reader whose first byte is of a new version gets that version, with its head."""

    async def scenario(bench):
        await bench.read(RangeSpec(0, 999))
        new = bytes(range(256)) * 300
        bench.origin.versions.append(Version(new, '"v2"'))
        assert await bench.read(RangeSpec(50_000, 59_999)) == new[50_000:60_000]

    on_bench(scenario)


def test_content_of_unknown_length_is_complete_at_a_clean_end_only(on_bench, line, content):
    """An abort is no end: the length is learned from the exchange that ended cleanly."""

    async def scenario(bench):
        resource = bench.resource()
        assert await bench.read(None, resource) == content
        assert resource.complete_length == len(content)
        assert resource.is_complete
        bench.pool.release_resource(resource)

    broken = line(200, (ETAG,), content[:5000], TransportError("lost"))
    on_bench(scenario, script=[broken, line(200, (ETAG,), content)])


def test_a_mistake_of_a_transport_is_a_failure_of_its_readers(on_bench, line, caplog):
    """An exception that is none of ours ends the download, not the cache."""

    async def scenario(bench):
        async def broken(request):
            raise KeyError("a bug in a plug-in")

        bench.transport.fetch = broken
        with pytest.raises(CacheStreamError, match="failed"):
            await bench.read()

    on_bench(scenario, script=[])
    assert "failed unexpectedly" in caplog.text


def test_a_later_part_freshens_what_is_known(on_bench, line, content):
    """New fields of the same version are taken over (RFC 9111 §3.4)."""

    async def scenario(bench):
        resource = bench.resource()
        await bench.read(RangeSpec(0, 999), resource)
        await bench.read(RangeSpec(50_000, 50_999), resource)
        assert resource.representation.fields.get("cache-control") == "max-age=9"
        (record,) = await bench.store.select(resource.key)
        assert record.representation == resource.representation
        bench.pool.release_resource(resource)

    first = part(line, content, 0, 1000)
    second = part(line, content, 50_000, 51_000, ETAG, ("Cache-Control", "max-age=9"))
    on_bench(scenario, script=[first, second])
