"""The engine's handler and the fake one keep the contract of handlers."""

import pytest
import pytest_asyncio

from cachestream import CacheManager
from cachestream.errors import UpstreamTimeoutError
from cachestream.testing import HandlerContract
from cachestream.testing.fakes import FailingBody, FakeHandler, answer_with
from cachestream.testing.origin import Origin, pattern

CONTENT = pattern("handlers", 700_000).bytes()


def no_more(request):
    """Let nobody go on where content broke off."""
    begins = request.range is None or request.range.startswith("bytes=0-")
    return None if begins else {"drop_after": -1}


class TestCacheHandler(HandlerContract):
    """The engine's own, over a store on disk and a real origin."""

    @pytest_asyncio.fixture
    async def origin(self):
        async with Origin() as origin:
            origin.add("/whole", CONTENT)
            origin.add("/cut", CONTENT, drop_after=100_000, drop_times=None, plan=no_more)
            origin.add("/failing", CONTENT, drop_after=-1, drop_times=None)
            yield origin

    @pytest_asyncio.fixture
    async def handler(self, origin, tmp_path):
        async with CacheManager(
            cache_dir=tmp_path,
            min_free=0,
            start_server=False,
            allow_hosts=("any",),
            retry_delay=0.01,
            request_timeout=0.5,
        ) as cache:
            yield cache._handler

    @pytest.fixture
    def content(self):
        return CONTENT

    @pytest.fixture
    def whole(self, origin):
        return f"/http/{origin.authority}/whole"

    @pytest.fixture
    def cut(self, origin):
        return f"/http/{origin.authority}/cut"

    @pytest.fixture
    def failing(self, origin):
        return f"/http/{origin.authority}/failing"


class TestCacheHandlerInMemory(TestCacheHandler):
    """With content that may not be stored, which goes through a ring."""

    @pytest_asyncio.fixture
    async def origin(self):
        async with Origin() as origin:
            fields = (("Cache-Control", "no-store"),)
            origin.add("/whole", CONTENT, fields=fields)
            cut = origin.add("/cut", CONTENT, drop_after=100_000, drop_times=None, plan=no_more)
            cut.fields = fields
            origin.add("/failing", CONTENT, drop_after=-1, drop_times=None)
            yield origin


@pytest.mark.parametrize("nowait", [True, False])
class TestFakeHandler(HandlerContract):
    """The stand-in that frontends are tested with."""

    @pytest.fixture
    def handler(self, nowait):
        error = UpstreamTimeoutError("the origin is silent")
        return FakeHandler(
            {
                "/whole": self.answer_whole,
                "/cut": lambda head: answer_with(FailingBody(CONTENT[:1000], error), length=9999),
                "/failing": lambda head: answer_with(b"no", status=502),
            },
            nowait=nowait,
        )

    @staticmethod
    def answer_whole(head):
        if head.method == "HEAD":
            answer = answer_with(b"")
            answer.length = len(CONTENT)
            return answer
        return answer_with(CONTENT)

    @pytest.fixture
    def content(self):
        return CONTENT
