"""A manager's parts are made from objects, names, or names with options."""

import pytest

from cachestream import CacheManager, Plugin
from cachestream.backends import MemoryStore
from cachestream.config import Parts
from cachestream.errors import ConfigurationError, PluginConflictError
from cachestream.registry import Registry
from cachestream.settings import Settings
from cachestream.testing import OriginThread, pattern
from cachestream.transports import HttpTransport, SchemeTransport

SIZE = 100_000


class Other(HttpTransport):
    """A second transport for http and https."""


def parts(**settings: object) -> Parts:
    """Return the maker of parts of a manager with one more plug-in."""
    registry = Registry("off")
    registry.register("transport", "other", Other)
    return Parts(registry, Settings(**settings))  # type: ignore[arg-type]


def test_an_object_is_taken_as_it_is() -> None:
    """What was given is not ours to close."""
    store = MemoryStore()
    assert parts().make("store", store) == (store, False)


@pytest.mark.parametrize("given", ["memory", Plugin("memory")])
def test_a_name_is_made(given: str | Plugin) -> None:
    """What was made here is ours to close."""
    store, is_ours = parts().make("store", given)
    assert isinstance(store, MemoryStore)
    assert is_ours


async def close(*transports: HttpTransport) -> None:
    """Close what a test has made."""
    for transport in transports:
        await transport.aclose()


@pytest.mark.asyncio
async def test_one_transport_needs_no_dispatcher() -> None:
    """A single transport is asked directly, also as the only one of a list."""
    for given in ("http", ["http"], (Plugin("http"),)):
        transport, owned = parts().make_transport(given)
        assert isinstance(transport, HttpTransport)
        assert owned == (transport,)
        await close(transport)


@pytest.mark.asyncio
async def test_several_transports_are_one() -> None:
    """Each serves its own schemes; what was given is not ours to close."""
    http = HttpTransport()
    transport, owned = parts().make_transport([http, Plugin("filesystem")])
    assert isinstance(transport, SchemeTransport)
    assert {"http", "https", "memory", "ftp"} <= transport.schemes
    assert http not in owned
    assert len(owned) == 1
    await transport.aclose()


@pytest.mark.asyncio
async def test_a_scheme_that_two_claim_must_be_mapped() -> None:
    """Two that serve one scheme are a conflict, unless the setting names one."""
    mine, theirs = HttpTransport(), Other()
    with pytest.raises(PluginConflictError, match="both serve"):
        parts().make_transport([mine, theirs])
    chosen = parts(schemes={"http": "Other", "https": "HttpTransport"})
    transport, _ = chosen.make_transport([mine, theirs])
    assert isinstance(transport, SchemeTransport)
    assert transport.transport_for("http://a.example/") is theirs
    assert transport.transport_for("https://a.example/") is mine
    await transport.aclose()


@pytest.mark.parametrize(
    ("schemes", "message"),
    [
        ({"http": "htp"}, "'htp', which is no transport in use. Did you mean 'http'"),
        ({"gopher": "http"}, "'http' does not serve gopher URLs. It serves http, https"),
    ],
)
@pytest.mark.asyncio
async def test_a_mapping_must_name_what_is_there(schemes: dict[str, str], message: str) -> None:
    """A scheme can only be left to a transport in use that serves it."""
    with pytest.raises(ConfigurationError, match=message):
        parts(schemes=schemes).make_transport("http")
    with pytest.raises(ConfigurationError, match="at least one"):
        parts().make_transport([])


@pytest.mark.asyncio
async def test_a_manager_with_several_transports_serves_all_their_schemes() -> None:
    """An HTTP origin and another file system are read through one manager."""
    import fsspec

    fsspec.filesystem("memory").pipe("/parts/a.bin", pattern("m", SIZE).bytes(0, SIZE))
    with OriginThread() as origin:
        origin.add("/a.bin", pattern("h", SIZE))
        async with CacheManager(
            store="memory", transport=["http", "filesystem"], registry=Registry("off")
        ) as cache:
            for source, seed in ((origin.url("/a.bin"), "h"), ("memory://parts/a.bin", "m")):
                async with cache.open(source) as file:
                    assert await file.read(SIZE) == pattern(seed, SIZE).bytes(0, SIZE)
                assert cache.get_cache_url(source)
