"""Every transport of ours keeps the contract of transports."""

import aiohttp
import pytest
import pytest_asyncio

from cachestream.testing.transports import TransportContract
from cachestream.transports import HttpTransport, SchemeTransport, TransportWrapper


class TestHttpTransport(TransportContract):
    """The transport over aiohttp."""

    @pytest.fixture
    def transport(self):
        return HttpTransport()

    @pytest.fixture
    def impatient(self):
        return HttpTransport(read_timeout=0.2)


class TestSchemeTransport(TransportContract):
    """A transport made of several."""

    @pytest.fixture
    def transport(self):
        return SchemeTransport([HttpTransport()])

    @pytest.fixture
    def impatient(self):
        return SchemeTransport([HttpTransport(read_timeout=0.2)])


class TestTransportWrapper(TransportContract):
    """A transport around another one."""

    @pytest.fixture
    def transport(self):
        return TransportWrapper(HttpTransport())

    @pytest.fixture
    def impatient(self):
        return TransportWrapper(HttpTransport(read_timeout=0.2))


class TestOwnConnector(TransportContract):
    """The transport over a connector of the user's, whose idle connections nobody else closes."""

    @pytest_asyncio.fixture
    async def connector(self):
        connector = aiohttp.TCPConnector(force_close=True)
        yield connector
        await connector.close()

    @pytest.fixture
    def transport(self, connector):
        return HttpTransport(connector=connector)

    @pytest.fixture
    def impatient(self, connector):
        return HttpTransport(connector=connector, read_timeout=0.2)
