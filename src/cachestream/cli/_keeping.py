"""`ls`, `info`, `rm`, `prune`, `verify` and `stats`: what is held, without a server.

Another process may serve from the same directory meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from cachestream.cli._exits import EPILOG, Exit, Failure
from cachestream.cli._options import SettingsCommand, with_settings
from cachestream.cli._output import columns, json_option, notice, print_json
from cachestream.cli._session import open_cache, run
from cachestream.cli._values import DurationType, SizeType
from cachestream.core.quantities import format_duration, format_size

if TYPE_CHECKING:
    from cachestream.abc import EntryRecord
    from cachestream.config import Configuration
    from cachestream.core.spans import Span
    from cachestream.manager import CacheManager

__all__ = ["info", "ls", "prune", "rm", "stats", "verify"]

_PAGE: Final = 1000
_PLACE: Final = ("cache_dir",)


async def _records(cache: CacheManager) -> AsyncIterator[EntryRecord]:
    """Yield all records, page by page."""
    after: str | None = None
    while page := await cache.cache_records(limit=_PAGE, after=after):
        for record in page:
            yield record
        after = page[-1].entry_id


def _row(record: EntryRecord) -> dict[str, Any]:
    """Return a record as JSON shows it: bytes, and seconds since the epoch."""
    return {
        "url": record.source,
        "key": record.key,
        "entry": record.entry_id,
        "complete": record.complete,
        "complete_length": record.representation.complete_length,
        "stored_bytes": record.stored_bytes,
        "allocated_bytes": record.allocated_bytes,
        "created": record.created,
        "accessed": record.accessed,
        "pinned": record.pinned,
        "file": record.file,
    }


def _share(record: EntryRecord) -> str:
    length = record.representation.complete_length
    if length is None:
        return "?"
    # 100% only when nothing is missing.
    return "100%" if record.complete else f"{record.stored_bytes * 100 // max(1, length)}%"


@click.command(cls=SettingsCommand, epilog=EPILOG)
@with_settings(("store",), _PLACE)
@json_option
def ls(given: Configuration, /, as_json: bool) -> None:
    """List what is held."""
    records = run(_all(given))
    if as_json:
        print_json([_row(record) for record in records])
        return
    now = time.time()
    rows = [
        (
            format_size(record.stored_bytes),
            _share(record),
            f"{format_duration(max(0.0, now - record.accessed))} ago",
            record.source,
        )
        for record in records
    ]
    if rows:
        click.echo(columns(("STORED", "OF IT", "USED", "URL"), rows, right=3))


async def _all(given: Configuration) -> list[EntryRecord]:
    async with open_cache(given, start_server=False) as cache:
        return [record async for record in _records(cache)]


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.argument("url")
@with_settings(("store",), _PLACE)
@json_option
def info(given: Configuration, /, url: str, as_json: bool) -> None:
    """Show what is known of URL, and which of its bytes are held."""
    row = run(_info(given, url))
    if as_json:
        print_json(row)
        return
    spans = row.pop("spans")
    for name in ("created", "accessed"):
        row[name] = datetime.fromtimestamp(row[name], UTC).isoformat(timespec="seconds")
    row["held"] = ", ".join(f"{start}-{stop - 1}" for start, stop in spans) or "nothing"
    width = max(map(len, row))
    for name, value in row.items():
        shown = {None: "none", True: "yes", False: "no"}.get(value, value)
        click.echo(f"{name.replace('_', ' '):{width}}  {shown}")


async def _info(given: Configuration, url: str) -> dict[str, Any]:
    async with open_cache(given, start_server=False) as cache:
        record = await cache.get_cache_record(url)
        if record is None:
            raise Failure(f"not in the cache: {url}", Exit.NOT_FOUND)
        entry = await cache.store.open(record.entry_id)
        try:
            spans = [[span.start, span.stop] for span in entry.spans]
        finally:
            await entry.aclose()
    known = record.representation
    return {
        **_row(record),
        "status": known.status,
        "content_type": known.fields.get("content-type"),
        "entity_tag": known.fields.get("etag"),
        "last_modified": known.fields.get("last-modified"),
        "spans": spans,
    }


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.argument("urls", nargs=-1, metavar="[URL...]")
@click.option("--all", "everything", is_flag=True, help="Delete all that is held.")
@with_settings(("store",), _PLACE)
def rm(given: Configuration, /, urls: tuple[str, ...], everything: bool) -> None:
    """Delete what is held of URLs."""
    if bool(urls) == everything:
        raise click.UsageError("Name URLs, or --all.")
    missing = run(_rm(given, urls))
    if missing:
        raise Failure(f"not in the cache: {', '.join(missing)}", Exit.NOT_FOUND)


async def _rm(given: Configuration, urls: tuple[str, ...]) -> list[str]:
    async with open_cache(given, start_server=False) as cache:
        if not urls:
            notice(f"{await cache.delete_cache()} deleted")
        return [url for url in urls if not await cache.delete(url)]


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.option("--max-size", type=SizeType(), help="Delete until no more room is taken than this.")
@click.option("--older-than", type=DurationType(), help="Delete what was not used for so long.")
@click.option("--partial", is_flag=True, help="Delete what is incomplete.")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be deleted.")
@with_settings(("store",), _PLACE)
@json_option
def prune(
    given: Configuration,
    /,
    max_size: int | None,
    older_than: float | None,
    partial: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete what is not wanted any more, least recently used first.

    What is pinned stays.
    """
    if max_size is None and older_than is None and not partial:
        raise click.UsageError("Say what to delete: --max-size, --older-than or --partial.")
    gone = run(_prune(given, max_size, older_than, partial, dry_run))
    if as_json:
        print_json([_row(record) for record in gone])
    else:
        for record in gone:
            click.echo(record.source)
        size = format_size(sum(record.allocated_bytes for record in gone))
        notice(f"{len(gone)} {'would be ' if dry_run else ''}deleted, {size}")


def choose(
    records: list[EntryRecord],
    *,
    now: float,
    max_size: int | None,
    older_than: float | None,
    partial: bool,
) -> list[EntryRecord]:
    """Return which records to delete; a pure function of what is held.

    Args:
        records: All records.
        now: Seconds since the epoch.
        max_size: Bytes that may stay allocated, None for any number.
        older_than: Seconds without use that are too many, None for none.
        partial: Whether to delete what is incomplete.
    """
    gone: list[EntryRecord] = []
    room = sum(record.allocated_bytes for record in records)
    for record in sorted(records, key=lambda record: record.accessed):
        if record.pinned:
            continue
        too_old = older_than is not None and now - record.accessed > older_than
        too_much = max_size is not None and room > max_size
        if too_old or too_much or (partial and not record.complete):
            gone.append(record)
            room -= record.allocated_bytes
    return gone


async def _prune(
    given: Configuration,
    max_size: int | None,
    older_than: float | None,
    partial: bool,
    dry_run: bool,
) -> list[EntryRecord]:
    async with open_cache(given, start_server=False) as cache:
        gone = choose(
            [record async for record in _records(cache)],
            now=time.time(),
            max_size=max_size,
            older_than=older_than,
            partial=partial,
        )
        if not dry_run:
            for record in gone:
                await cache.store.delete(record.entry_id)
    return gone


@click.command(cls=SettingsCommand, epilog=EPILOG)
@click.argument("urls", nargs=-1, metavar="[URL...]")
@with_settings(("store",), _PLACE)
@json_option
def verify(given: Configuration, /, urls: tuple[str, ...], as_json: bool) -> None:
    """Read what is held of URLs, or of all, and check it against its sums.

    Bytes that fail are forgotten, and fetched anew when they are next wanted.
    """
    checked = run(_verify(given, urls))
    bad = [(record, spans) for record, spans in checked if spans]
    if as_json:
        print_json(
            [
                {**_row(record), "bad": [[span.start, span.stop] for span in spans]}
                for record, spans in checked
            ]
        )
    else:
        for record, spans in bad:
            ranges = ", ".join(f"{span.start}-{span.stop - 1}" for span in spans)
            click.echo(f"bad: {record.source}: {ranges}")
        notice(f"{len(checked)} checked, {len(bad)} bad")
    if bad:
        raise Failure("stored bytes fail their check", Exit.INTEGRITY)


async def _verify(
    given: Configuration, urls: tuple[str, ...]
) -> list[tuple[EntryRecord, tuple[Span, ...]]]:
    async with open_cache(given, start_server=False) as cache:
        if not urls:
            return await cache.verify(None)
        for url in urls:
            if await cache.get_cache_record(url) is None:
                raise Failure(f"not in the cache: {url}", Exit.NOT_FOUND)
        return [found for url in urls for found in await cache.verify(url)]


@click.command(cls=SettingsCommand, epilog=EPILOG)
@with_settings(("store",), _PLACE)
@json_option
def stats(given: Configuration, /, as_json: bool) -> None:
    """Show how much is held."""
    row = run(_stats(given))
    if as_json:
        print_json(row)
        return
    limit = row["limit_bytes"]
    click.echo(f"entries    {row['entries']}, {row['complete']} of them complete")
    click.echo(f"stored     {format_size(row['stored_bytes'])}")
    click.echo(f"allocated  {format_size(row['allocated_bytes'])}")
    click.echo(f"limit      {'none' if limit is None else format_size(limit)}")


async def _stats(given: Configuration) -> dict[str, Any]:
    async with open_cache(given, start_server=False) as cache:
        usage = await cache.usage()
        complete = stored = 0
        async for record in _records(cache):
            complete += record.complete
            stored += record.stored_bytes
    return {
        "entries": usage.entries,
        "complete": complete,
        "stored_bytes": stored,
        "allocated_bytes": usage.allocated_bytes,
        "limit_bytes": usage.limit_bytes,
    }
