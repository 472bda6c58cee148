"""With many entries nothing costs more than with few: counted in steps of SQLite, not in time."""

import contextlib
import sqlite3

import pytest

from cachestream.abc import Key
from cachestream.backends import _room
from cachestream.core.representation import Representation
from cachestream.core.spans import Span

FEW, MANY = 1_000, 20_000
VERY_MANY = pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])
SIZE = 512


async def opened(crowd, counter, **options):
    """Open a store, and return it with what that cost."""
    counter.take()
    store = crowd.store(**options)
    await store.usage()
    return store, counter.take()


async def hit(store, crowd, number):
    """Look an entry up, read it, and let it go."""
    (record,) = await store.select(Key(crowd.source(number)))
    entry = await store.open(record.entry_id)
    assert await entry.read(Span(0, SIZE)) == crowd.body(number)
    await entry.aclose()


async def put(store, number):
    """Store and publish another entry."""
    source = f"https://example.org/{number}"
    entry = await store.create(Key(source), source, Representation(complete_length=SIZE))
    entry.writer(0).write(bytes(SIZE))
    await entry.publish()
    await entry.aclose()
    await store.usage()  # comes after all that the index thread was asked for


def rows(root):
    """Return what is in an index, less what depends on the moment."""
    with contextlib.closing(sqlite3.connect(root / "index" / "cache.db")) as base:
        found = base.execute(
            "SELECT key, raw, expire_time, access_time, access_count, tag, size, mode, filename,"
            " value FROM Cache ORDER BY key"
        ).fetchall()
        numbers = base.execute("SELECT * FROM Settings ORDER BY key").fetchall()
    return found, numbers


@pytest.mark.asyncio
async def test_a_made_crowd_is_what_the_store_would_have_written(crowds, tmp_path, monkeypatch):
    """The rows that these tests make in bulk are those of entries stored one by one."""
    crowd = crowds(3)
    twin = type(crowd)(tmp_path / "twin", 3)
    store = twin.store(clock=lambda: 0.0)
    await store.usage()
    for number in range(3):
        born = int(twin.entry_id(number)[:16], 16)
        monkeypatch.setattr(store._host, "now", lambda born=born: born)
        monkeypatch.setattr("secrets.token_hex", lambda _, number=number: f"{number:016x}")
        source = twin.source(number)
        entry = await store.create(Key(source), source, Representation(complete_length=SIZE))
        entry.writer(0).write(twin.body(number))
        await entry.publish()
        await entry.aclose()
    await store.aclose()
    assert rows(twin.root) == rows(crowd.root)


@pytest.mark.parametrize("many", [MANY, VERY_MANY])
@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_same_steps_whatever_the_number(crowds, counter, many):
    """Opening, a hit, a listing, the usage and an eviction take the same for any number."""
    costs = {}
    for count in (FEW, many):
        crowd, cost = crowds(count), {}
        crowd.write_files([count // 2])
        store, cost["open"] = await opened(crowd, counter, max_size=count * 4096)
        await hit(store, crowd, count // 2)
        cost["hit"] = counter.take()
        await store.usage()
        cost["usage"] = counter.take()
        assert len(await store.records(limit=20)) == 20
        cost["list"] = counter.take()
        await store.records(limit=20, after=crowd.entry_id(count // 2))
        cost["list on"] = counter.take()
        assert await store.has_authority("https://example.com")
        cost["authority"] = counter.take()
        await put(store, 0)
        cost["evict"] = counter.take()
        await store.aclose()
        cost["close"] = counter.take()
        costs[count] = cost
    for what, (statements, steps) in costs[FEW].items():
        assert costs[many][what][0] == statements, what
        # A row may lie first or last on its page, which makes a step or two.
        assert costs[many][what][1] == pytest.approx(steps, rel=0.1, abs=10), what


@pytest.mark.slow
@pytest.mark.asyncio
async def test_an_eviction_gives_up_few_entries_at_once(crowds):
    """However much room is to be made ahead, the event loop is not held up for long."""
    crowd = crowds(MANY)
    store = crowd.store(max_size=MANY * 4096)
    await put(store, 0)
    usage = await store.usage()
    assert 1 <= usage.evicted_entries <= _room._MOST_AT_ONCE
    await store.aclose()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_evicting_goes_on_where_it_was(crowds, counter):
    """Many evictions in a row do not read again what the ones before gave up."""
    crowd = crowds(FEW)
    store, _ = await opened(crowd, counter, max_size=FEW * 4096)
    for _ in range(8):
        store._host.room._evict(4096 * 60)
    scans = [statement for statement in counter.statements if "ORDER BY key LIMIT 64" in statement]
    assert len(scans) <= 2 * 8
    assert (await store.usage()).evicted_entries >= 8 * 60
    await store.aclose()


@pytest.mark.asyncio
async def test_what_is_open_is_out_of_the_way_of_eviction(crowds):
    """An entry in use is taken for used now, so that it is not looked at again and again."""
    crowd = crowds(3)
    crowd.write_files(range(3))
    store = crowd.store(max_size=3 * 4096)
    entry = await store.open(crowd.entry_id(0))
    before = store._host.catalog.access(crowd.entry_id(0)).accessed
    await store._host.access.flush()
    store._host.access._times.clear()
    await put(store, 0)
    assert store._host.access.last(crowd.entry_id(0), 0) > before
    assert await store.select(Key(crowd.source(0)))
    assert not await store.select(Key(crowd.source(1)))
    await entry.aclose()
    await store.aclose()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_lost_total_is_counted_page_by_page(crowds, counter):
    """Where the row of totals is gone, all heads are counted, but never all in memory."""
    crowd = crowds(MANY)
    with contextlib.closing(sqlite3.connect(crowd.root / "index" / "cache.db")) as base:
        base.execute("DELETE FROM Cache WHERE key = 'z:totals'")
        base.commit()
    store, (statements, _) = await opened(crowd, counter)
    usage = await store.usage()
    assert (usage.entries, usage.allocated_bytes) == (MANY, MANY * 4096)
    assert statements > MANY
    await store.aclose()


@pytest.mark.asyncio
async def test_the_index_keeps_little_in_memory(crowds):
    """A connection has some MiB of pages at most, and maps no file."""
    store = crowds(3).store()
    await store.usage()
    sql = store._host.catalog.index._cache._sql
    ((pages,),), ((size,),) = (sql(f"PRAGMA {name}") for name in ("cache_size", "page_size"))
    assert 0 < pages * size <= 4 * 1024 * 1024
    assert sql("PRAGMA mmap_size").fetchone() == (0,)
    await store.aclose()
