"""The admin port: who may see what, by which paths, and what it never answers."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from cachestream.abc import Inspector, StoreUsage
from cachestream.core.histogram import Distribution
from cachestream.core.status import Failure, Readiness, ResourceStatus, Statistics
from cachestream.errors import ConfigurationError
from cachestream.frontends import AdminServer
from cachestream.settings import Settings
from cachestream.testing._raw_client import RawClient, RawResponse

pytestmark = pytest.mark.asyncio

TOKEN = "canary-token"
PATHS = ("/-/healthz", "/-/readyz", "/-/metrics")
NOT_READY = Readiness(reasons=(("store", "it is full"),))


class Shown(Inspector):
    """Shows a cache that is ready, until it is told otherwise."""

    def __init__(self) -> None:
        self.found = Readiness()

    def statistics(self) -> Statistics:
        return Statistics(requests=3, hits=3)

    def waits(self) -> Mapping[str, Distribution]:
        return {}

    def resources(self) -> tuple[ResourceStatus, ...]:
        return ()

    def failures(self) -> tuple[Failure, ...]:
        return ()

    def settings(self) -> Mapping[str, object]:
        return {}

    async def usage(self) -> StoreUsage | None:
        return None

    async def readiness(self) -> Readiness:
        return self.found


@pytest.fixture
def shown() -> Shown:
    """Return what is shown."""
    return Shown()


@pytest_asyncio.fixture
async def base(shown: Shown) -> AsyncIterator[str]:
    """Serve without a token."""
    async with AdminServer(shown).serve() as base:
        yield base


@pytest_asyncio.fixture
async def guarded(shown: Shown) -> AsyncIterator[str]:
    """Serve with a token."""
    async with AdminServer(shown, token=TOKEN).serve() as base:
        yield base


async def ask(
    base: str, target: str, *fields: tuple[str, str], method: str = "GET", host: str | None = None
) -> RawResponse:
    """Ask once, on a connection of its own."""
    async with RawClient(base) as client:
        place = urlsplit(base).netloc if host is None else host
        return await client.ask(target, *fields, method=method, host=place)


# -- pages ----------------------------------------------------------------------


async def test_alive_and_ready_are_json(base: str, shown: Shown) -> None:
    """Both answer 200; what is not ready answers 503 with each reason."""
    alive = await ask(base, "/-/healthz")
    assert (alive.status, json.loads(alive.content)) == (200, {"status": "alive"})
    ready = await ask(base, "/-/readyz")
    assert (ready.status, json.loads(ready.content)) == (200, {"ready": True, "reasons": []})
    shown.found = NOT_READY
    ready = await ask(base, "/-/readyz")
    assert ready.status == 503
    assert json.loads(ready.content) == {
        "ready": False,
        "reasons": [{"part": "store", "reason": "it is full"}],
    }
    assert (await ask(base, "/-/healthz")).status == 200


@pytest.mark.parametrize(
    ("accept", "media_type", "end"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", b""),
        (
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text;",
            b"# EOF\n",
        ),
        ("text/html, */*;q=0.1", "text/plain; version=0.0.4; charset=utf-8", b""),
    ],
)
async def test_metrics_are_in_the_format_asked_for(
    base: str, accept: str, media_type: str, end: bytes
) -> None:
    """OpenMetrics goes to those who accept it, the text format to all others."""
    got = await ask(base, "/-/metrics", *([("Accept", accept)] if accept else []))
    assert got.status == 200
    assert (got.fields.get("content-type") or "").startswith(media_type)
    assert b'cachestream_requests_total{outcome="hit"} 3.0' in got.content
    assert got.content.endswith(end)


async def test_the_loop_is_measured_while_it_serves(base: str) -> None:
    """How late the loop runs is on the page."""
    got = await ask(base, "/-/metrics")
    assert b"cachestream_event_loop_lag_seconds_count" in got.content


async def test_without_the_library_metrics_say_what_to_install(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """501 names the extra; health works all the same."""

    def missing(*args: object) -> None:
        raise ModuleNotFoundError("metrics need it", name="prometheus_client")

    monkeypatch.setitem(sys.modules, "cachestream.metrics", Lazy(missing))
    async with AdminServer(shown).serve() as base:
        got = await ask(base, "/-/metrics")
        assert got.status == 501
        assert b"pip install 'cachestream[metrics]'" in got.content
        assert (await ask(base, "/-/readyz")).status == 200


class Lazy:
    """Stands for a module whose import fails when something of it is wanted."""

    __name__ = "cachestream.metrics"
    __spec__ = None

    def __init__(self, fail: Any) -> None:
        self._fail = fail

    def __getattr__(self, name: str) -> Any:
        if name == "MetricsPage":
            self._fail()
        raise AttributeError(name)


async def test_another_missing_module_is_not_hidden(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the library itself may be missing; anything else is a broken installation."""

    def missing(*args: object) -> None:
        raise ModuleNotFoundError("no module named 'other'", name="other")

    monkeypatch.setitem(sys.modules, "cachestream.metrics", Lazy(missing))
    with pytest.raises(ModuleNotFoundError, match="other"):
        async with AdminServer(shown).serve():
            pass


@pytest.mark.parametrize(
    "target", ["/", "/-/", "/-/healthz/", "/healthz", "/-/config", "/example.com/v", "/favicon.ico"]
)
async def test_there_is_nothing_else(base: str, target: str) -> None:
    """Whatever else is asked for is 404, a local URL as well."""
    assert (await ask(base, target)).status == 404


@pytest.mark.parametrize("path", PATHS)
async def test_a_query_changes_nothing(base: str, path: str) -> None:
    """A probe may add what it likes against caches on the way."""
    assert (await ask(base, f"{path}?t=1")).status == 200


@pytest.mark.parametrize("path", PATHS)
async def test_head_has_the_status_without_content(base: str, path: str) -> None:
    """HEAD is answered like GET."""
    got = await ask(base, path, method="HEAD")
    assert (got.status, got.content) == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_refused(base: str, method: str) -> None:
    """Nothing can be changed through this port."""
    got = await ask(base, "/-/readyz", method=method)
    assert (got.status, got.fields.get("allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
async def test_answers_are_not_kept_and_not_for_pages(base: str, path: str) -> None:
    """No cache keeps an answer, and no page of another origin may use it."""
    got = await ask(base, path)
    assert got.fields.get("cache-control") == "no-store"
    assert got.fields.get("x-content-type-options") == "nosniff"
    assert got.fields.get("cross-origin-resource-policy") == "same-origin"
    assert got.fields.get("access-control-allow-origin") is None


# -- who may come in ------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.:80"])
async def test_a_foreign_host_is_misdirected(base: str, path: str, host: str) -> None:
    """A page that got its name to mean this machine reads nothing (DNS rebinding)."""
    assert (await ask(base, path, host=host)).status == 421


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
async def test_all_names_of_loopback_are_ours(base: str, name: str) -> None:
    """A probe may call this machine what it likes."""
    host = f"{name}:{urlsplit(base).port}"
    assert (await ask(base, "/-/healthz", host=host)).status == 200


async def test_server_names_are_answered_to(shown: Shown) -> None:
    """A name that was configured is one of ours, on any port."""
    async with AdminServer(shown, server_names=("films.example",)).serve() as base:
        assert (await ask(base, "/-/healthz", host="films.example")).status == 200
        assert (await ask(base, "/-/healthz", host="films.example:99")).status == 200
        assert (await ask(base, "/-/healthz", host="other.example")).status == 421


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "fields",
    [
        (("Origin", "https://evil.example"),),
        (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")),
        (("Sec-Fetch-Site", "same-site"),),
    ],
)
async def test_pages_of_others_are_refused(
    base: str, path: str, fields: tuple[tuple[str, str], ...]
) -> None:
    """What another site's page asks for is 403."""
    assert (await ask(base, path, *fields)).status == 403


async def test_absolute_targets_are_judged_too(base: str) -> None:
    """A target with a foreign authority is misdirected, one of ours is answered."""
    assert (await ask(base, "http://evil.example/-/healthz")).status == 421
    assert (await ask(base, f"{base}/-/healthz")).status == 200


@pytest.mark.parametrize(
    "fields", [(), (("Authorization", "Bearer wrong"),), (("Authorization", f"Basic {TOKEN}"),)]
)
async def test_metrics_need_the_token(
    guarded: str, shown: Shown, fields: tuple[tuple[str, str], ...]
) -> None:
    """Without it metrics are 401 and readiness keeps its reasons; health is told to all."""
    shown.found = NOT_READY
    got = await ask(guarded, "/-/metrics", *fields)
    assert got.status == 401
    assert (got.fields.get("www-authenticate") or "").startswith("Bearer")
    ready = await ask(guarded, "/-/readyz", *fields)
    assert (ready.status, json.loads(ready.content)) == (503, {"ready": False})
    assert (await ask(guarded, "/-/healthz", *fields)).status == 200
    assert TOKEN.encode() not in got.content


@pytest.mark.parametrize("way", ["field", "path"])
async def test_the_token_opens(guarded: str, shown: Shown, way: str) -> None:
    """It may come as a bearer token, or before the path as in local URLs."""
    shown.found = NOT_READY
    fields = [("Authorization", f"bearer {TOKEN}")] if way == "field" else []
    lead = "" if way == "field" else f"/~{TOKEN}"
    assert (await ask(guarded, f"{lead}/-/metrics", *fields)).status == 200
    ready = await ask(guarded, f"{lead}/-/readyz", *fields)
    assert json.loads(ready.content)["reasons"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_wrong_token_in_the_path_names_nothing(base: str, guarded: str, path: str) -> None:
    """It is 404, as for local URLs; so is one where none is asked for."""
    assert (await ask(guarded, f"/~wrong{path}")).status == 404
    assert (await ask(base, f"/~{TOKEN}{path}")).status == 404


async def test_open_to_all_asks_nobody(shown: Shown) -> None:
    """Who chose that on purpose needs no token for metrics."""
    async with AdminServer(shown, token=TOKEN, open_to_all=True).serve() as base:
        assert (await ask(base, "/-/metrics")).status == 200
        assert (await ask(base, f"/~{TOKEN}/-/metrics")).status == 200


# -- listening ------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "films.example"])
async def test_a_wider_address_needs_a_token(shown: Shown, host: str) -> None:
    """It is refused without one, and the error says all ways out."""
    with pytest.raises(ConfigurationError, match="admin_host") as caught:
        AdminServer(shown, host=host)
    assert "token" in str(caught.value)
    assert "admin_open" in str(caught.value)
    AdminServer(shown, host=host, token=TOKEN)
    AdminServer(shown, host=host, open_to_all=True)


@pytest.mark.skipif(sys.platform != "linux", reason="others have one loopback address")
async def test_on_all_addresses_the_one_that_was_reached_is_ours(shown: Shown) -> None:
    """A probe calls this machine by the address it knows, other names stay foreign."""
    async with AdminServer(shown, host="0.0.0.0", token=TOKEN).serve() as base:
        port = urlsplit(base).port
        assert base == f"http://127.0.0.1:{port}"
        other = f"http://127.0.0.2:{port}"
        assert (await ask(other, "/-/healthz")).status == 200
        assert (await ask(other, "/-/healthz", host="evil.example")).status == 421


async def test_a_port_in_use_is_named(shown: Shown) -> None:
    """A port that somebody has is a clear error, and nothing is left listening."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            async with AdminServer(shown, port=port).serve():
                pass


async def test_nothing_listens_after_the_end(shown: Shown) -> None:
    """Leaving the context closes the port and the connections on it."""
    async with AdminServer(shown).serve() as base:
        kept = RawClient(base)
        async with kept:
            assert (await kept.ask("/-/healthz", host=urlsplit(base).netloc)).status == 200
    place = urlsplit(base)
    with pytest.raises(ConnectionError):
        socket.create_connection((place.hostname, place.port)).close()


async def test_settings_say_all_of_it(shown: Shown) -> None:
    """Port, address, token, names and openness come from the settings."""
    settings = Settings(
        admin_port=0,
        admin_host="localhost",
        token=TOKEN,
        admin_open=True,
        server_names=("films.example",),
    )
    async with AdminServer.from_settings(settings, shown).serve() as base:
        assert base.startswith("http://127.0.0.1:")
        assert (await ask(base, "/-/metrics", host="films.example")).status == 200
