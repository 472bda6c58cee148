"""One transport made of several, each for its own schemes."""

import pytest

from cachestream.abc import Transport, UpstreamRequest, UpstreamResponse
from cachestream.errors import InvalidURLError, PluginConflictError
from cachestream.transports import HttpTransport, SchemeTransport


class Answer(UpstreamResponse):
    """An empty answer that names its transport."""

    def __init__(self, url):
        self.status = 200
        self.url = url

    async def aclose(self):
        """Do nothing."""


class Fake(Transport):
    """A transport that writes down what it was asked."""

    def __init__(self, *schemes, failing=False):
        self.schemes = frozenset(schemes)
        self.failing = failing
        self.calls = []

    async def prepare(self, request):
        self.calls.append(("prepare", request.url))
        return request

    async def refresh(self, source, status):
        self.calls.append(("refresh", source, status))
        return f"{source}?new"

    async def fetch(self, request):
        self.calls.append(("fetch", request.url))
        return Answer(request.url)

    async def aclose(self):
        self.calls.append(("aclose",))
        if self.failing:
            raise OSError("cannot close")


def request(url):
    return UpstreamRequest(url=url, source="http://source/")


@pytest.mark.asyncio
async def test_requests_go_to_the_transport_of_their_scheme():
    """Each method is passed on by the scheme of its URL, whatever its case."""
    one, two = Fake("one", "uno"), Fake("two")
    both = SchemeTransport([one, two])
    assert both.schemes == {"one", "uno", "two"}
    await both.prepare(request("one://a/"))
    assert (await both.fetch(request("UNO://b/"))).url == "UNO://b/"
    assert await both.refresh("two://c/", 403) == "two://c/?new"
    assert one.calls == [("prepare", "one://a/"), ("fetch", "UNO://b/")]
    assert two.calls == [("refresh", "two://c/", 403)]


@pytest.mark.asyncio
async def test_an_unknown_scheme_is_refused_by_name():
    """The error says which schemes there are."""
    both = SchemeTransport([Fake("two"), Fake("one")])
    with pytest.raises(InvalidURLError, match="one, two"):
        await both.fetch(request("three://a/"))
    with pytest.raises(InvalidURLError):
        await both.refresh("nonsense", 403)


def test_two_claims_on_one_scheme_are_a_conflict():
    """Both are named, unless a mapping decides."""
    first, second = Fake("http"), HttpTransport()
    with pytest.raises(PluginConflictError, match=r"Fake and .*HttpTransport both serve http"):
        SchemeTransport([first, second])
    chosen = SchemeTransport([first, second], {"HTTP": second})
    assert chosen.transport_for("http://a/") is second
    assert chosen.transport_for("https://a/") is second
    other = Fake()
    assert SchemeTransport([first], {"http": other}).transport_for("http://a/") is other


def test_one_transport_may_be_given_twice():
    """The same object does not contradict itself."""
    one = Fake("one")
    assert SchemeTransport([one, one]).transport_for("one://a/") is one


@pytest.mark.asyncio
async def test_closing_closes_each_once_even_if_one_fails():
    """A transport that cannot be closed does not keep the others open."""
    failing, mapped, last = Fake("one", failing=True), Fake(), Fake("two")
    both = SchemeTransport([failing, last, last], {"three": mapped, "two": last})
    with pytest.raises(ExceptionGroup) as caught:
        await both.aclose()
    assert [str(each) for each in caught.value.exceptions] == ["cannot close"]
    assert failing.calls == mapped.calls == last.calls == [("aclose",)]
