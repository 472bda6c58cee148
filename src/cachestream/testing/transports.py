"""The contract of transports, as tests: subclass it, give a fixture, run pytest.

Example:
    A transport's own tests::

        class TestMyTransport(TransportContract):
            @pytest.fixture()
            def transport(self):
                return MyTransport()

            @pytest.fixture()
            def impatient(self):
                return MyTransport(read_timeout=0.2)
"""

from __future__ import annotations

from cachestream.testing._transport_base import Collector, ask
from cachestream.testing._transport_exchange import ExchangePromises
from cachestream.testing._transport_failure import FailurePromises

__all__ = ["Collector", "TransportContract", "ask"]


class TransportContract(ExchangePromises, FailurePromises):
    """Everything that `cachestream.abc.Transport` promises, for one that serves ``http``.

    Fixture ``transport``: a transport that may ask 127.0.0.1. Fixture ``impatient``: one like it
    that gives a silent origin up soon; if there is none, ``transport`` has to. The contract
    closes both. Fixture ``origin`` is a real `cachestream.testing.origin.Origin`. Needs
    pytest-asyncio.
    """
